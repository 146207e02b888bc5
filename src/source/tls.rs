//! TLS settings with the meanings of libpq's `sslmode` (docs: "SSL Support", "Protection Provided in Different Modes").
//!
//! Invariant: whatever is not asked of the certificate, the server always proves that it holds the certificate's key.
//! Otherwise SCRAM's channel binding, which names the certificate, would bind to nothing.

use super::SourceError;
use crate::config::{Tls, TlsMode};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use std::{path::Path, sync::Arc};

/// The configuration of a TLS client, or `None` where TLS is off. Files are read at every call, so that a renewed
/// certificate holds from the next connection on.
pub fn client_config(tls: &Tls) -> Result<Option<Arc<ClientConfig>>, SourceError> {
    let checked = match tls.mode {
        TlsMode::Disable => return Ok(None),
        TlsMode::Prefer => false,
        TlsMode::Require => tls.ca_file.is_some(),
        TlsMode::VerifyCa | TlsMode::VerifyFull => true,
    };
    let provider = Arc::new(ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let mut verifier = Verifier { chain: None, given: Vec::new(), names: false, algorithms };
    if checked {
        let (roots, given) = roots(tls.ca_file.as_deref())?;
        let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
        verifier.chain = Some(chain.map_err(|error| unusable("postgres.tls.ca_file", &error))?);
        verifier.given = given;
        verifier.names = tls.mode == TlsMode::VerifyFull;
    }
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("TLS", &error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let config = match (&tls.cert_file, &tls.key_file) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert_file), Some(key_file)) => {
            let chain = certificates(cert_file, "postgres.tls.cert_file")?;
            let key = PrivateKeyDer::from_pem_file(key_file)
                .map_err(|error| unreadable(key_file, "postgres.tls.key_file", &error))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| unusable("postgres.tls.cert_file", &error))?
        }
        _ => {
            let what = "postgres.tls has one of cert_file and key_file; give both or none";
            return Err(SourceError::Setting(what.into()));
        }
    };
    Ok(Some(Arc::new(config)))
}

/// Certificates of authorities: those of the file, else the system's and Mozilla's.
fn roots(ca_file: Option<&Path>) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), SourceError> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca_file else {
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::debug!(%error, "a certificate store of the system is left out");
        }
        roots.add_parsable_certificates(system.certs);
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok((roots, Vec::new()));
    };
    let given = certificates(path, "postgres.tls.ca_file")?;
    for certificate in &given {
        roots.add(certificate.clone()).map_err(|error| unusable("postgres.tls.ca_file", &error))?;
    }
    Ok((roots, given))
}

fn certificates(path: &Path, key: &str) -> Result<Vec<CertificateDer<'static>>, SourceError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(unreadable(path, key, &"there is no certificate in it")),
        Err(error) => Err(unreadable(path, key, &error)),
    }
}

fn unreadable(path: &Path, key: &str, error: &dyn std::fmt::Display) -> SourceError {
    SourceError::Setting(format!("cannot read {} as PEM: {error}; check {key}", path.display()))
}

fn unusable(key: &str, error: &dyn std::fmt::Display) -> SourceError {
    SourceError::Setting(format!(
        "{key} cannot be used: {error}; check the certificates and keys in postgres.tls"
    ))
}

/// Checks as much of a certificate as the mode asks.
#[derive(Debug)]
struct Verifier {
    /// `None`: any certificate will do.
    chain: Option<Arc<WebPkiServerVerifier>>,
    /// The certificates of `ca_file`.
    given: Vec<CertificateDer<'static>>,
    /// Does the host name count?
    names: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        let verdict =
            match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
                // webpki refuses an authority's certificate as a server's. libpq takes a self-signed one that is also the
                // root; its dates were checked before it came to this.
                Err(Error::InvalidCertificate(CertificateError::Other(_)))
                    if self.given.iter().any(|c| c == end_entity) =>
                {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)
                        .map(|()| ServerCertVerified::assertion())
                }
                verdict => verdict,
            };
        match verdict {
            // The name is looked at last: with this error the chain is good.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.names => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Class;

    fn tls(mode: TlsMode) -> Tls {
        Tls { mode, ca_file: None, cert_file: None, key_file: None }
    }

    #[test]
    fn only_disable_goes_without_tls() {
        assert!(client_config(&tls(TlsMode::Disable)).unwrap().is_none());
        for mode in [TlsMode::Prefer, TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull] {
            assert!(client_config(&tls(mode)).unwrap().is_some());
        }
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let here = Path::new(file!()).to_owned();
        let table = [
            (Tls { ca_file: Some("/none".into()), ..tls(TlsMode::VerifyCa) }, "check postgres.tls.ca_file"),
            (Tls { ca_file: Some(here), ..tls(TlsMode::Require) }, "check postgres.tls.ca_file"),
            (Tls { cert_file: Some("/none".into()), ..tls(TlsMode::Prefer) }, "give both"),
        ];
        for (tls, cure) in table {
            let error = client_config(&tls).unwrap_err();
            assert_eq!(error.class(), Class::Fatal);
            assert!(error.to_string().contains(cure), "{error}");
        }
    }
}
