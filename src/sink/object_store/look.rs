//! A look at a store before anything is promised to it: is it there, and does it let us in?

use std::time::Duration;

use ::object_store::{Error, ObjectStoreExt};

use super::ObjectSink;
use crate::sink::trouble;

/// An object that nobody has.
const NOBODYS: &str = ".hydrant-probe";

/// How long a store may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// What a look at a store has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// It answers, and lets us look.
    Reached,
    /// It answers and says no; who may only put objects is told the same.
    Unclear { message: String },
    /// As it is, nothing can be put there.
    Wrong { message: String, hint: Option<&'static str> },
}

impl ObjectSink {
    /// Asks for an object that nobody has. Writes nothing; takes at most ten seconds. Cancel-safe.
    pub async fn look(&self) -> Look {
        let path = self.shared.root.clone().join(NOBODYS);
        let error = match tokio::time::timeout(ANSWER_TIME_MAX, self.shared.store.get(&path)).await {
            Ok(Ok(_)) => return Look::Reached,
            Ok(Err(error)) => error,
            Err(_) => {
                let message = format!("no answer within {} s", ANSWER_TIME_MAX.as_secs());
                return Look::Wrong { message, hint: Some("is the endpoint right, and reachable from here?") };
            }
        };
        let (message, hint) = trouble::in_words(&error);
        let speaks_of = |code: &str| message.contains(code);
        match error {
            Error::NotFound { .. } if speaks_of("NoSuchBucket") || speaks_of("ContainerNotFound") => {
                Look::Wrong { message, hint }
            }
            Error::NotFound { .. } => Look::Reached,
            Error::PermissionDenied { .. } if speaks_of("InvalidAccessKeyId") || speaks_of("SignatureDoesNotMatch") => {
                Look::Wrong { message, hint }
            }
            Error::PermissionDenied { .. } => Look::Unclear { message },
            _ => Look::Wrong { message, hint },
        }
    }
}
