//! What was asked of the world, and what came of it.

/// A call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When, in Unix milliseconds.
    pub at_ms: i64,
    /// The region it went to.
    pub region: String,
    /// The service as calls to it are signed: `ec2`, `sts`, `monitoring` and so on.
    pub service: String,
    /// The action.
    pub action: String,
    /// All parameters.
    pub form: Vec<(String, String)>,
    /// The status of the answer; `None` if none arrived.
    pub status: Option<u16>,
    /// The code of the error; `None` if it is no error.
    pub code: Option<String>,
    /// Whether the world changed by it, whatever was answered.
    pub took_effect: bool,
}

impl Entry {
    /// A parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.form.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
