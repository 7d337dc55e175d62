//! Access keys: who may sign calls.

use crate::region::ACCOUNT;

/// The access key that every world knows.
pub const ACCESS_KEY: &str = "AKIDEXAMPLE";
/// Its secret.
pub const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// An access key.
#[derive(Clone, Debug)]
pub(crate) struct AccessKey {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) token: Option<String>,
    /// When it runs out, in Unix milliseconds.
    pub(crate) ends_ms: Option<i64>,
    pub(crate) arn: String,
    pub(crate) user_id: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Keys(Vec<AccessKey>);

impl Default for Keys {
    fn default() -> Self {
        let mut keys = Self(Vec::new());
        keys.add(ACCESS_KEY, SECRET_KEY, None);
        keys
    }
}

impl Keys {
    pub(crate) fn add(&mut self, id: &str, secret: &str, token: Option<&str>) {
        self.insert(AccessKey {
            id: id.to_owned(),
            secret: secret.to_owned(),
            token: token.map(str::to_owned),
            ends_ms: None,
            arn: format!("arn:aws:iam::{ACCOUNT}:user/respot"),
            user_id: "AIDAEXAMPLEUSERID0001".to_owned(),
        });
    }

    pub(crate) fn insert(&mut self, key: AccessKey) {
        self.0.retain(|known| known.id != key.id);
        self.0.push(key);
    }

    pub(crate) fn get(&self, id: &str) -> Option<&AccessKey> {
        self.0.iter().find(|key| key.id == id)
    }

    pub(crate) fn shift(&mut self, by: i64) {
        for key in &mut self.0 {
            key.ends_ms = key.ends_ms.map(|at| at + by);
        }
    }
}
