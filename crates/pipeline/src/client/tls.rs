//! TLS to PostgreSQL by libpq's words: how much of who the server is gets looked at.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

/// What an address asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) mode: SslMode,
    looks: Looks,
}

/// What is looked at in the server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Looks {
    Nothing,
    Authority { root: String },
    AuthorityAndName { root: String },
}

impl Wanted {
    /// From `sslmode` and `sslrootcert`. As in libpq, `require` with authorities looks at them.
    pub(super) fn of(mode: Option<&str>, root: Option<String>) -> Result<Wanted, String> {
        let needed = |root: Option<String>| root.ok_or("sslmode verify-ca and verify-full need sslrootcert");
        let (mode, looks) = match (mode.unwrap_or("prefer"), root) {
            ("disable", _) => (SslMode::Disable, Looks::Nothing),
            ("allow" | "prefer", _) => (SslMode::Prefer, Looks::Nothing),
            ("require", None) => (SslMode::Require, Looks::Nothing),
            ("require", Some(root)) => (SslMode::Require, Looks::Authority { root }),
            ("verify-ca", root) => (SslMode::Require, Looks::Authority { root: needed(root)? }),
            ("verify-full", root) => (SslMode::Require, Looks::AuthorityAndName { root: needed(root)? }),
            (other, _) => return Err(format!("sslmode `{other}` is unknown")),
        };
        Ok(Wanted { mode, looks })
    }

    /// What makes the connections.
    pub(super) fn connector(&self) -> Result<MakeRustlsConnect, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|e| e.to_string())?;
        let config = match &self.looks {
            Looks::AuthorityAndName { root } => builder.with_root_certificates(store(root)?).with_no_client_auth(),
            Looks::Authority { root } => {
                let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(store(root)?), provider.clone());
                let inner = Some(inner.build().map_err(|e| e.to_string())?);
                let verifier = Arc::new(Lenient { inner, provider });
                builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
            }
            Looks::Nothing => {
                let verifier = Arc::new(Lenient { inner: None, provider });
                builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
            }
        };
        Ok(MakeRustlsConnect::new(config))
    }
}

fn store(file: &str) -> Result<RootCertStore, String> {
    let wrong = |e: &dyn std::fmt::Display| format!("sslrootcert {file}: {e}");
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|e| wrong(&e))? {
        store.add(certificate.map_err(|e| wrong(&e))?).map_err(|e| wrong(&e))?;
    }
    Ok(store)
}

/// Looks at the authority and not at the name, or, without authorities, at neither: what libpq's weaker modes promise. That
/// the server has the certificate's key is looked at in any case.
#[derive(Debug)]
struct Lenient {
    inner: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(inner) = &self.inner else { return Ok(ServerCertVerified::assertion()) };
        match inner.verify_server_cert(end, intermediates, name, ocsp, now) {
            // The name is looked at last: the chain has been found good.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        end: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, end, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        end: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, end, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_look_at_what_libpq_looks_at() {
        let looks = |mode, root: Option<&str>| Wanted::of(mode, root.map(str::to_owned)).map(|w| (w.mode, w.looks));
        let root = "/ca".to_owned();
        assert_eq!(looks(None, None), Ok((SslMode::Prefer, Looks::Nothing)));
        assert_eq!(looks(Some("disable"), None), Ok((SslMode::Disable, Looks::Nothing)));
        assert_eq!(looks(Some("require"), None), Ok((SslMode::Require, Looks::Nothing)));
        let authority = Looks::Authority { root: root.clone() };
        assert_eq!(looks(Some("require"), Some("/ca")), Ok((SslMode::Require, authority.clone())));
        assert_eq!(looks(Some("verify-ca"), Some("/ca")), Ok((SslMode::Require, authority)));
        assert_eq!(looks(Some("verify-full"), Some("/ca")), Ok((SslMode::Require, Looks::AuthorityAndName { root })));
        assert!(looks(Some("verify-full"), None).is_err() && looks(Some("sometimes"), None).is_err());
    }
}
