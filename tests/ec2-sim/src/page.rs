//! Listings page by page (1.6).

use crate::error::{Answer, ApiError};
use crate::form::Form;
use crate::world::World;

/// A listing that has further pages.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    region: String,
    fingerprint: String,
    pub(crate) made_ms: i64,
    rest: Vec<String>,
    shown: Vec<String>,
    /// Whether the page of this token is an empty one.
    is_blank: bool,
}

/// One page: the ids of its rows, and the token of the next one.
pub(crate) type Page = (Vec<String>, Option<String>);

impl World {
    /// The page that a call asks for. `sizes` are the least and the greatest `MaxResults`; `list` makes the listing.
    pub(crate) fn page(
        &mut self,
        region: &str,
        form: &Form,
        sizes: (i64, i64),
        list: impl FnOnce(&mut Self) -> Answer<Vec<String>>,
    ) -> Answer<Page> {
        let (least, greatest) = sizes;
        let size = form.number("MaxResults");
        if let Some(size) = size.filter(|size| !(least..=greatest).contains(size)) {
            let why = format!("Expecting a value between {least} and {greatest}.");
            return Err(ApiError::value("MaxResults", &size.to_string(), &why));
        }
        let size = size.and_then(|size| usize::try_from(size).ok()).unwrap_or(usize::MAX);
        let size = size.min(self.rules.page_size_cap).max(1);
        let fingerprint = form.fingerprint(&["NextToken", "MaxResults"]);
        let listing = match form.get("NextToken").filter(|token| !token.is_empty()) {
            Some(token) => self.listing(region, token, &fingerprint)?,
            None => Listing {
                region: region.to_owned(),
                fingerprint,
                made_ms: self.now,
                rest: list(self)?,
                shown: Vec::new(),
                is_blank: false,
            },
        };
        form.unless_dry_run()?;
        Ok(self.cut(listing, size))
    }

    fn listing(&mut self, region: &str, token: &str, fingerprint: &str) -> Answer<Listing> {
        let oldest = self.now - self.rules.page_token_life_ms;
        self.listings.retain(|_, listing| listing.made_ms >= oldest);
        let listing = self.listings.get(token);
        let listing = listing.filter(|listing| listing.region == region && listing.fingerprint == fingerprint);
        listing.cloned().ok_or_else(|| {
            ApiError::new("InvalidPaginationToken", "The specified pagination token is not valid or is expired")
        })
    }

    fn cut(&mut self, mut listing: Listing, size: usize) -> Page {
        if listing.is_blank {
            listing.is_blank = false;
            return (Vec::new(), Some(self.keep_listing(listing)));
        }
        if self.rules.shuffled {
            self.rng.shuffle(&mut listing.rest);
        }
        let rest = listing.rest.split_off(listing.rest.len().min(size));
        let mut rows = std::mem::replace(&mut listing.rest, rest);
        if self.rules.shuffled && self.rng.u8(0..3) == 0 && rows.len() < size.max(2) {
            rows.extend(self.rng.choice(&listing.shown).cloned());
        }
        if listing.rest.is_empty() {
            return (rows, None);
        }
        listing.shown.extend(rows.iter().cloned());
        listing.is_blank = self.rules.empty_pages;
        (rows, Some(self.keep_listing(listing)))
    }

    fn keep_listing(&mut self, listing: Listing) -> String {
        let token = format!("eyJ2IjoiMiIsImMiOiJ{:032x}fQ==", self.rng.u128(..));
        self.listings.insert(token.clone(), listing);
        token
    }
}
