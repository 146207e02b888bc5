//! How the HTTP client is built: proxy, time-outs, TLS and credentials, read from their files each time.

use super::error::{Result, SinkError};
use crate::config::{Credential, OpenSearch, Tls, TlsMode};
use reqwest::{Certificate, ClientBuilder, Identity, Proxy, redirect, retry};
use rustls::pki_types::CertificateDer;
use secrecy::{ExposeSecret, SecretString};
use std::{fs, path::Path, time::Duration};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Below the idle time-outs of load balancers (60 s at AWS), so that they do not close a connection as it is used.
const POOL_IDLE: Duration = Duration::from_secs(30);

/// User and password for basic authentication.
pub(super) type Login = Option<(SecretString, SecretString)>;

/// A new HTTP client with an empty pool.
pub(super) fn http_client(config: &OpenSearch) -> Result<reqwest::Client> {
    let builder = ClientBuilder::new()
        .user_agent(concat!("pg2os/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE)
        .tcp_keepalive(Duration::from_secs(30))
        // Answers are small; inflating them costs more than it saves.
        .gzip(false)
        // A connection for each lane: over HTTP/2 all would share one, and fall with it.
        .http1_only()
        // A redirect would send the password to a host that is not configured.
        .redirect(redirect::Policy::none())
        // Whether a request is repeated is the lane's decision.
        .retry(retry::never());
    let builder = match &config.proxy {
        Some(url) => builder.proxy(Proxy::all(url.as_str()).map_err(|error| {
            SinkError::Configuration(format!("opensearch.proxy: {}", error.without_url()))
        })?),
        None => builder.no_proxy(),
    };
    let builder = match config.urls.iter().any(|url| url.starts_with("https:")) {
        true => with_tls(builder, &config.tls)?,
        // Not even the system's authorities are needed then.
        false => builder.tls_certs_only([]),
    };
    builder.build().map_err(|error| {
        SinkError::Configuration(format!("opensearch: no HTTP client can be made ({})", chain(&error)))
    })
}

fn with_tls(mut builder: ClientBuilder, tls: &Tls) -> Result<ClientBuilder> {
    let authorities = match &tls.ca_file {
        Some(path) => Certificate::from_pem_bundle(&read_file("opensearch.tls.ca_file", path)?)
            .ok()
            .filter(|certificates| !certificates.is_empty())
            .ok_or_else(|| {
                SinkError::Configuration(format!(
                    "opensearch.tls.ca_file: {} holds no certificate in PEM",
                    path.display()
                ))
            })?,
        None => system_authorities(),
    };
    // As libpq reads these modes: `require` checks the certificate where an authority is given.
    let checked = match tls.mode {
        TlsMode::VerifyFull | TlsMode::VerifyCa => true,
        TlsMode::Disable | TlsMode::Prefer | TlsMode::Require => tls.ca_file.is_some(),
    };
    if !checked {
        builder = builder.tls_danger_accept_invalid_certs(true);
    } else if authorities.is_empty() {
        return Err(SinkError::Configuration(
            "opensearch.tls.ca_file: this system has no certificate authorities of its own (package ca-certificates); name a file".to_owned(),
        ));
    } else if tls.mode != TlsMode::VerifyFull {
        builder = builder.tls_danger_accept_invalid_hostnames(true);
    }
    builder = builder.tls_certs_only(authorities);
    if let Some(certificate) = &tls.cert_file {
        let mut pem = read_file("opensearch.tls.cert_file", certificate)?;
        if let Some(key) = &tls.key_file {
            pem.push(b'\n');
            pem.extend(read_file("opensearch.tls.key_file", key)?);
        }
        let identity = Identity::from_pem(&pem).map_err(|_| {
            SinkError::Configuration(format!(
                "opensearch.tls.cert_file: {} and `key_file` are not a certificate and its private key in PEM",
                certificate.display()
            ))
        })?;
        builder = builder.identity(identity);
    }
    Ok(builder)
}

/// The system's authorities that can be parsed; one broken certificate must not make the others useless.
fn system_authorities() -> Vec<Certificate> {
    let usable = |der: &CertificateDer<'static>| rustls::RootCertStore::empty().add(der.clone()).is_ok();
    rustls_native_certs::load_native_certs()
        .certs
        .into_iter()
        .filter(usable)
        .filter_map(|der| Certificate::from_der(&der).ok())
        .collect()
}

/// The credentials as they are now.
pub(super) fn login(config: &OpenSearch) -> Result<Login> {
    let read = |key, credential: &Option<Credential>| {
        credential.as_ref().map(|credential| read_credential(key, credential)).transpose()
    };
    let user = read("opensearch.username", &config.username)?;
    let password = read("opensearch.password", &config.password)?;
    Ok(user.map(|user| (user, password.unwrap_or_default())))
}

fn read_credential(key: &str, credential: &Credential) -> Result<SecretString> {
    credential.read().map_err(|error| SinkError::Configuration(format!("{key}: {error}")))
}

fn read_file(key: &str, path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| {
        SinkError::Configuration(format!("{key}: {} cannot be read: {error}", path.display()))
    })
}

/// Do two logins differ?
pub(super) fn differ(a: &Login, b: &Login) -> bool {
    let exposed = |login: &Login| {
        login.as_ref().map(|(u, p)| (u.expose_secret().to_owned(), p.expose_secret().to_owned()))
    };
    exposed(a) != exposed(b)
}

/// An error and its causes on one line: reqwest's own text only says that a request failed.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
