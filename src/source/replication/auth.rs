//! The login: startup packet and authentication (docs: "Message Formats", "Password Authentication", "SASL
//! Authentication").
//!
//! Invariant: the password leaves this process in the clear only under TLS or on the loopback, and a server that began
//! SCRAM is believed only after it has proved that it knows the password too.

use super::wire::{Fields, malformed};
use crate::source::{Login, SourceError};
use bytes::BytesMut;
use postgres_protocol::{
    authentication::{
        md5_hash,
        sasl::{ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256},
    },
    message::frontend,
};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256, Sha384, Sha512};

/// The StartupMessage of a connection for logical replication.
pub(super) fn startup(
    user: &str,
    database: &str,
    application_name: &str,
    options: &str,
) -> Result<BytesMut, SourceError> {
    let mut message = BytesMut::new();
    let parameters = [
        ("user", user),
        ("database", database),
        ("replication", "database"),
        ("application_name", application_name),
        ("client_encoding", "UTF8"),
        ("options", options),
    ];
    frontend::startup_message(parameters, &mut message).map_err(|error| {
        SourceError::Setting(format!("the user, database or pipeline name: {error}; correct it"))
    })?;
    Ok(message)
}

/// What the connection allows.
pub(super) struct Channel<'a> {
    /// Is it under TLS, or on the loopback?
    pub(super) confidential: bool,
    /// The server's certificate in DER, under TLS.
    pub(super) certificate: Option<&'a [u8]>,
}

/// The conversation until AuthenticationOk.
pub(super) struct Authentication<'a> {
    login: &'a Login,
    confidential: bool,
    binding: Option<Vec<u8>>,
    scram: Scram,
}

enum Scram {
    NotBegun,
    Begun(Box<ScramSha256>),
    Proved,
}

impl<'a> Authentication<'a> {
    pub(super) fn new(login: &'a Login, channel: &Channel<'_>) -> Self {
        let binding = channel.certificate.and_then(tls_server_end_point);
        Authentication { login, confidential: channel.confidential, binding, scram: Scram::NotBegun }
    }

    /// Answers the body of an Authentication message; `None` needs no answer.
    pub(super) fn answer(&mut self, body: &[u8]) -> Result<Option<BytesMut>, SourceError> {
        let mut fields = Fields(body);
        let kind = fields.i32().ok_or_else(|| malformed("an Authentication message", body))?;
        match kind {
            0 if matches!(self.scram, Scram::Begun(_)) => {
                Err(self.refused("the server cut the SCRAM exchange short; it may not be yours"))
            }
            0 => Ok(None),
            3 if !self.confidential => Err(self.refused(
                "the server asks for the password in the clear; use postgres.tls.mode require, or scram-sha-256 in pg_hba.conf",
            )),
            3 => self.send(|out| frontend::password_message(self.password()?, out).map_err(|e| self.failed(&e))),
            5 => {
                let salt = fields.take(4).and_then(|salt| <[u8; 4]>::try_from(salt).ok());
                let salt = salt.ok_or_else(|| malformed("an Authentication message", body))?;
                let hash = md5_hash(self.login.user.as_bytes(), self.password()?, salt);
                self.send(|out| frontend::password_message(hash.as_bytes(), out).map_err(|e| self.failed(&e)))
            }
            10 => self.begin_scram(fields),
            11 => self.continue_scram(fields.0).map(Some),
            12 => self.finish_scram(fields.0).map(|()| None),
            other => {
                let name = match other {
                    2 => "Kerberos V5",
                    7 => "GSSAPI",
                    9 => "SSPI",
                    _ => "an unknown method",
                };
                let reason = format!("the server asks for {name} (code {other}), which is not supported; use scram-sha-256 or cert in pg_hba.conf");
                Err(self.refused(&reason))
            }
        }
    }

    fn begin_scram(&mut self, mut mechanisms: Fields<'_>) -> Result<Option<BytesMut>, SourceError> {
        let (mut plain, mut plus) = (false, false);
        while let Some(name) = mechanisms.text().filter(|name| !name.is_empty()) {
            plain |= name == SCRAM_SHA_256;
            plus |= name == SCRAM_SHA_256_PLUS;
        }
        // Saying that the server does not know channel binding where it should lets it notice a man in the middle.
        let (mechanism, binding) =
            match (plus, self.binding.take()) {
                (true, Some(hash)) => (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(hash)),
                (false, Some(_)) if plain => (SCRAM_SHA_256, ChannelBinding::unrequested()),
                _ if plain => (SCRAM_SHA_256, ChannelBinding::unsupported()),
                _ => return Err(self.refused(
                    "the server offers no SASL mechanism but unknown ones; use scram-sha-256 in pg_hba.conf",
                )),
            };
        let scram = ScramSha256::new(self.password()?, binding);
        let answer = self.send(|out| {
            frontend::sasl_initial_response(mechanism, scram.message(), out).map_err(|e| self.failed(&e))
        })?;
        self.scram = Scram::Begun(Box::new(scram));
        Ok(answer)
    }

    fn continue_scram(&mut self, data: &[u8]) -> Result<BytesMut, SourceError> {
        let Scram::Begun(scram) = &mut self.scram else { return Err(out_of_order()) };
        let mut out = BytesMut::new();
        let result = scram.update(data).and_then(|()| frontend::sasl_response(scram.message(), &mut out));
        result.map_err(|error| self.failed(&error))?;
        Ok(out)
    }

    fn finish_scram(&mut self, data: &[u8]) -> Result<(), SourceError> {
        let Scram::Begun(scram) = &mut self.scram else { return Err(out_of_order()) };
        let result = scram.finish(data);
        result.map_err(|error| self.failed(&error))?;
        self.scram = Scram::Proved;
        Ok(())
    }

    fn send(
        &self,
        write: impl FnOnce(&mut BytesMut) -> Result<(), SourceError>,
    ) -> Result<Option<BytesMut>, SourceError> {
        let mut out = BytesMut::new();
        write(&mut out)?;
        Ok(Some(out))
    }

    fn password(&self) -> Result<&[u8], SourceError> {
        let password = self.login.password.as_ref().map(|password| password.expose_secret().as_bytes());
        password.filter(|password| !password.is_empty()).ok_or_else(|| {
            self.refused("the server asks for a password and there is none; set postgres.password_file")
        })
    }

    fn failed(&self, error: &std::io::Error) -> SourceError {
        self.refused(&format!("{error}; check the password, and that the server is yours"))
    }

    fn refused(&self, reason: &str) -> SourceError {
        SourceError::Auth { user: self.login.user.clone(), reason: reason.to_owned() }
    }
}

fn out_of_order() -> SourceError {
    SourceError::Protocol("a SASL message out of order".into())
}

/// The channel binding `tls-server-end-point` (RFC 5929): the certificate's hash under the hash function of its own
/// signature, SHA-256 in place of MD5 and SHA-1. `None` for signatures without one (Ed25519, RSA-PSS here).
fn tls_server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (whole, _) = der(certificate, 0x30)?;
    let (_, rest) = der(whole, 0x30)?;
    let (algorithm, _) = der(rest, 0x30)?;
    let (oid, _) = der(algorithm, 0x06)?;
    // 1.2.840.113549.1.1.x: RSA; 1.2.840.10045.4.x: ECDSA.
    match oid {
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, kind] => match kind {
            4 | 5 | 11 => Some(Sha256::digest(certificate).to_vec()),
            12 => Some(Sha384::digest(certificate).to_vec()),
            13 => Some(Sha512::digest(certificate).to_vec()),
            _ => None,
        },
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 1] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 3, 2] => {
            Some(Sha256::digest(certificate).to_vec())
        }
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 3, 3] => Some(Sha384::digest(certificate).to_vec()),
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 3, 4] => Some(Sha512::digest(certificate).to_vec()),
        _ => None,
    }
}

/// Content and rest of a DER value that has the tag `tag` (X.690, 8.1).
fn der(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, length], rest) = bytes.split_first_chunk()?;
    if found != tag {
        return None;
    }
    if length < 0x80 {
        return rest.split_at_checked(length.into());
    }
    let (digits, rest) = rest.split_at_checked((length & 0x7f).into())?;
    if digits.len() > 4 {
        return None;
    }
    let length = digits.iter().fold(0_usize, |n, digit| n << 8 | usize::from(*digit));
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use proptest::prelude::*;

    fn login(password: Option<&str>) -> Login {
        Login { user: "u".into(), password: password.map(Into::into) }
    }

    fn request(kind: i32, rest: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], rest].concat()
    }

    fn open<'a>(login: &'a Login, confidential: bool) -> Authentication<'a> {
        Authentication::new(login, &Channel { confidential, certificate: None })
    }

    #[test]
    fn the_password_goes_in_the_clear_only_where_nobody_listens() {
        let login = login(Some("secret"));
        let sent = open(&login, true).answer(&request(3, b"")).unwrap().unwrap();
        assert_eq!(&sent[..], b"p\0\0\0\x0bsecret\0");
        let error = open(&login, false).answer(&request(3, b"")).unwrap_err();
        assert!(error.to_string().contains("postgres.tls.mode require"), "{error}");
    }

    #[test]
    fn md5_is_the_documented_hash() {
        let login = login(Some("password"));
        let login = Login { user: "md5_user".into(), ..login };
        let sent = open(&login, false).answer(&request(5, &[0x2a, 0x3d, 0x8f, 0xe0])).unwrap().unwrap();
        assert!(sent.ends_with(b"md562af4dd09bbb41884907a838a3233294\0"));
        assert!(matches!(open(&login, false).answer(&request(5, b"12")), Err(SourceError::Protocol(_))));
    }

    #[test]
    fn refusals_name_the_cure() {
        let (with, without) = (login(Some("x")), login(None));
        let scram = b"SCRAM-SHA-256\0\0";
        for (login, kind, rest, cure) in [
            (&without, 10, &scram[..], "password_file"),
            (&without, 3, b"", "password_file"),
            (&with, 10, b"OTHER\0\0", "scram-sha-256"),
            (&with, 10, b"SCRAM-SHA-256-PLUS\0\0", "scram-sha-256"),
            (&with, 7, b"", "GSSAPI"),
            (&with, 9, b"", "SSPI"),
            (&with, 99, b"", "code 99"),
        ] {
            let error = open(login, true).answer(&request(kind, rest)).unwrap_err();
            assert!(matches!(error, SourceError::Auth { .. }) && error.to_string().contains(cure), "{error}");
        }
    }

    #[test]
    fn a_server_that_skips_its_own_proof_is_not_believed() {
        let login = login(Some("x"));
        let mut authentication = open(&login, false);
        authentication.answer(&request(10, b"SCRAM-SHA-256\0\0")).unwrap();
        assert!(matches!(authentication.answer(&request(0, b"")), Err(SourceError::Auth { .. })));
        assert!(matches!(open(&login, false).answer(&request(12, b"v=")), Err(SourceError::Protocol(_))));
        assert!(open(&login, false).answer(&request(0, b"")).unwrap().is_none());
    }

    /// A self-signed certificate with an ECDSA key, signed with SHA-256.
    const CERTIFICATE: &str = "MIIBbzCCARWgAwIBAgIUZvHO0+RbHaXrxWk5H7aBK0+qb7gwCgYIKoZIzj0EAwIwDDEKMAgGA1UEAwwBYTAgFw0yNjExMjEwOTU0MzNaGA8yMDU0MDQwNzA5NTQzM1owDDEKMAgGA1UEAwwBYTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABKhzB8NbEi1Mk6TjQdy0CySQslilirz/blNFDZ165mftlWgoYVOzjkJceWHg+DbFbzAngQOT9T0N49n2U+CzSFqjUzBRMB0GA1UdDgQWBBTK1wuJG8QbeIniqYO4zbJg9xrRKzAfBgNVHSMEGDAWgBTK1wuJG8QbeIniqYO4zbJg9xrRKzAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIH4AKfYkj0OdS5+CShewERKVbMz1dr3D1Axncl+7ps6MAiEApqZ9aIlfjpSTZD08q6hvx359X9PEVqBqaSuoa77AUsg=";

    #[test]
    fn a_certificate_is_bound_with_the_hash_of_its_signature() {
        let mut certificate = base64::engine::general_purpose::STANDARD.decode(CERTIFICATE).unwrap();
        let hash = tls_server_end_point(&certificate).unwrap();
        assert_eq!(hash[..4], [0x69, 0x55, 0xbd, 0x46]);

        let login = login(Some("x"));
        for (certificate, offer, header) in [
            (
                Some(&certificate),
                &b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"[..],
                &b"p=tls-server-end-point,,"[..],
            ),
            (Some(&certificate), b"SCRAM-SHA-256\0\0", b"y,,"),
            (None, b"SCRAM-SHA-256\0\0", b"n,,"),
        ] {
            let channel = Channel { confidential: true, certificate: certificate.map(Vec::as_slice) };
            let answer = Authentication::new(&login, &channel).answer(&request(10, offer)).unwrap().unwrap();
            assert!(memchr::memmem::find(&answer, header).is_some(), "{answer:?}");
        }

        // ecdsa-with-SHA384 in place of ecdsa-with-SHA256: the second one is the algorithm of the signature.
        let sha256 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 3, 2];
        let at = memchr::memmem::rfind(&certificate, &sha256).unwrap();
        certificate[at + 7] = 3;
        assert_eq!(tls_server_end_point(&certificate).unwrap().len(), 48);
        certificate[at + 7] = 4;
        assert_eq!(tls_server_end_point(&certificate).unwrap().len(), 64);
        certificate[at + 7] = 9;
        assert_eq!(tls_server_end_point(&certificate), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_login_panic(first: Vec<u8>, kind in 0_i32..14, second: Vec<u8>) {
            let login = login(Some("x"));
            let mut authentication = open(&login, true);
            let _ = authentication.answer(&first);
            let _ = authentication.answer(&request(10, b"SCRAM-SHA-256\0\0"));
            let _ = authentication.answer(&request(kind, &second));
            let _ = authentication.answer(&request(11, &second));
            let _ = tls_server_end_point(&first);
        }
    }
}
