//! Whose memory a store is.

use serde::{Deserialize, Serialize};

use super::super::{Answer, StoreError};
use super::{Decoder, keys};

/// The number of a memory, drawn by its first pass, and the account that it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    pub generation: u64,
    /// The provider, and its account where that is known; none in the records of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// The account that the memory is about.
pub(super) fn owner(decoder: &Decoder, answer: Option<Answer>) -> Result<Option<String>, StoreError> {
    let text = decoder.values(answer)?.into_iter().next().flatten();
    let generation = text.map(|text| decoder.decode::<Generation>(keys::GENERATION, &text)).transpose()?;
    Ok(generation.and_then(|it| it.owner))
}
