//! Why an endpoint can't be used as it is configured. No variant holds a secret or an address that may be one.

use lastgood_domain::failure::Coded;

/// Tells why nothing can be sent to an endpoint now.
#[derive(Debug, thiserror::Error)]
pub enum NoticeError {
    /// A secret is not there.
    #[error("notice endpoint {endpoint}: there is no secret {secret}")]
    SecretMissing {
        /// The endpoint's name.
        endpoint: String,
        /// The secret's name.
        secret: String,
    },
    /// A secret is there and not of the form needed.
    #[error("notice endpoint {endpoint}: secret {secret} is not {wanted}")]
    SecretMalformed {
        /// The endpoint's name.
        endpoint: String,
        /// The secret's name.
        secret: String,
        /// What is needed.
        wanted: &'static str,
    },
    /// An Alertmanager did not take the alerts.
    #[error("the Alertmanager at {place} refused {}: {why}", lastgood_domain::words::count(*.alerts as u64, "alert"))]
    AlertsRefused {
        /// Scheme, host and port.
        place: String,
        /// How many were sent.
        alerts: usize,
        /// What came instead.
        why: String,
    },
}

impl Coded for NoticeError {
    fn code(&self) -> &'static str {
        match self {
            Self::SecretMissing { .. } => "notice-secret-missing",
            Self::SecretMalformed { .. } => "notice-secret-malformed",
            Self::AlertsRefused { .. } => "notice-alerts-refused",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::SecretMissing { secret, .. } => format!("add it to lastgood.toml: [secret.{secret}]"),
            Self::SecretMalformed { wanted, .. } if wanted.contains("whsec_") => {
                "make one: printf 'whsec_%s\\n' \"$(openssl rand -base64 32)\"".into()
            }
            Self::SecretMalformed { .. } => {
                "copy the address of the incoming webhook into the secret's file again".into()
            }
            Self::AlertsRefused { place, .. } => format!("see whether it is up: curl {place}/-/ready"),
        })
    }
}
