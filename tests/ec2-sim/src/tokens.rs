//! What client tokens stand for (1.9).

use std::collections::HashMap;

use crate::error::{Answer, ApiError};
use crate::rules::TokenReuse;
use crate::world::World;

/// The calls that succeeded with a token. The scope is the zone where one is given or implied, else the region.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tokens(HashMap<(String, String), Use>);

#[derive(Clone, Debug)]
struct Use {
    fingerprint: String,
    instances: Vec<String>,
}

impl World {
    /// The instances of an earlier call with this token, if there was one.
    pub(crate) fn earlier(&mut self, scope: &str, token: &str, fingerprint: &str) -> Answer<Option<Vec<String>>> {
        let key = (scope.to_owned(), token.to_owned());
        let Some(earlier) = self.tokens.0.get(&key) else { return Ok(None) };
        let instances = earlier.instances.clone();
        let is_same = earlier.fingerprint == fingerprint;
        let ended = instances.iter().filter_map(|id| self.instance(id)).map(|instance| instance.ended_ms);
        let ended: Vec<_> = ended.collect();
        let is_forgotten = |ended: &Option<i64>| ended.is_some_and(|ended| ended + self.rules.token_life_ms < self.now);
        if ended.iter().all(is_forgotten) {
            self.tokens.0.remove(&key);
            return Ok(None);
        }
        if !is_same && self.rules.token_reuse == TokenReuse::Mismatch {
            let message =
                "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).";
            return Err(ApiError::new("IdempotentParameterMismatch", message));
        }
        if ended.iter().any(Option::is_some) {
            let message = format!("The client token {token} belongs to an instance that has been terminated.");
            return Err(ApiError::new("IdempotentInstanceTerminated", message));
        }
        Ok(Some(instances))
    }

    pub(crate) fn remember(&mut self, scope: &str, token: &str, fingerprint: String, instances: Vec<String>) {
        self.tokens.0.insert((scope.to_owned(), token.to_owned()), Use { fingerprint, instances });
    }
}
