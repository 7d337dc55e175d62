//! What a command prints on stdout: it writes itself, so that the JSON of a large fleet is never in memory as text.

use std::fmt;
use std::io::{self, BufWriter, Write};

use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::output::{RawStream, unless_closed};
use super::text;

/// What a command prints on stdout.
pub struct Document(Box<dyn FnOnce(&mut dyn Write) -> io::Result<()>>);

impl Document {
    /// JSON that `write` makes of what is kept for it.
    pub fn json<T: 'static>(kept: T, write: impl FnOnce(&T, JsonWriter<'_>) -> io::Result<()> + 'static) -> Self {
        Self(Box::new(move |out| write(&kept, JsonWriter(out))))
    }

    /// Writes it to stdout. A reader that went away (`respot history | head`) is no error.
    ///
    /// # Errors
    /// When it could not be written whole.
    pub fn print(self) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 16, RawStream::stdout());
        unless_closed((self.0)(&mut out).and_then(|()| out.flush()))
    }

    /// All of it.
    #[must_use]
    pub fn into_text(self) -> String {
        let mut text = Vec::new();
        // Writing to memory does not fail.
        let _ = (self.0)(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl From<String> for Document {
    fn from(text: String) -> Self {
        Self(Box::new(move |out| out.write_all(text.as_bytes())))
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Document")
    }
}

/// A list whose rows are made one by one while it is written.
pub struct Streamed<F>(pub F);

impl<F: Fn() -> I, I: Iterator<Item: Serialize>> Serialize for Streamed<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

/// Where a JSON document goes.
pub struct JsonWriter<'a>(&'a mut dyn Write);

impl JsonWriter<'_> {
    /// Writes a document, safe for a terminal, with a line end.
    ///
    /// # Errors
    /// Those of the output.
    pub fn document<T: Serialize>(self, document: &T) -> io::Result<()> {
        serde_json::to_writer_pretty(Escaped(&mut *self.0), document)?;
        self.0.write_all(b"\n")
    }
}

/// Makes JSON safe for a terminal. Each write holds whole characters, as serde_json writes whole pieces of texts.
struct Escaped<'a>(&'a mut dyn Write);

impl Write for Escaped<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if piece.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n')) {
            self.0.write_all(piece)?;
        } else {
            let piece = std::str::from_utf8(piece).map_err(io::Error::other)?;
            self.0.write_all(text::escape_json(piece).as_bytes())?;
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A JSON number that is written as it is displayed.
#[derive(Debug)]
pub struct Number<T>(pub T);

impl<T: fmt::Display> Serialize for Number<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.0.to_string()).map_err(S::Error::custom)?.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_streamed_is_what_is_made_at_once() {
        let names = ["plain", "\u{1b}[31m\"red\"\n", "größer \u{202e}", "\u{7f}", "日本"];
        let value = serde_json::json!({"names": names, "none": null, "figures": [1, -2, 0.5]});
        let expected = crate::report::json::document(&value);
        assert_eq!(Document::json(value, |value, out| out.document(value)).into_text(), expected);
        assert!(expected.contains("\\u202e") && expected.contains("größer"));
    }
}
