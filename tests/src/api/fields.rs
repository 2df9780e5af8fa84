//! Fields of a JSON body by pointer, with an error that shows the body when one is missing.

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Access to required fields; pointers are those of RFC 6901 (`/bytes/read`).
pub trait Fields {
    /// A string.
    fn text(&self, pointer: &str) -> Result<String>;
    /// A whole number, not negative.
    fn number(&self, pointer: &str) -> Result<u64>;
    /// A truth value.
    fn flag(&self, pointer: &str) -> Result<bool>;
    /// The elements of an array.
    fn list(&self, pointer: &str) -> Result<Vec<Value>>;
    /// Whether the field is there and null.
    fn is_null_at(&self, pointer: &str) -> bool;
}

impl Fields for Value {
    fn text(&self, pointer: &str) -> Result<String> {
        let text = self.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        text.with_context(|| format!("no text at `{pointer}` of {self:#}"))
    }

    fn number(&self, pointer: &str) -> Result<u64> {
        let number = self.pointer(pointer).and_then(Value::as_u64);
        number.with_context(|| format!("no number at `{pointer}` of {self:#}"))
    }

    fn flag(&self, pointer: &str) -> Result<bool> {
        let flag = self.pointer(pointer).and_then(Value::as_bool);
        flag.with_context(|| format!("no true or false at `{pointer}` of {self:#}"))
    }

    fn list(&self, pointer: &str) -> Result<Vec<Value>> {
        let list = self.pointer(pointer).and_then(Value::as_array).cloned();
        list.with_context(|| format!("no list at `{pointer}` of {self:#}"))
    }

    fn is_null_at(&self, pointer: &str) -> bool {
        self.pointer(pointer).is_some_and(Value::is_null)
    }
}

/// A text as one segment of a path or one value of a query.
pub fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_field_is_shown_with_its_body() {
        let body = serde_json::json!({"a": {"b": 7, "c": null}});
        assert_eq!(body.number("/a/b").unwrap(), 7);
        assert!(body.is_null_at("/a/c") && !body.is_null_at("/a/d"));
        let error = body.text("/a/b").unwrap_err().to_string();
        assert!(error.contains("/a/b") && error.contains('7'), "{error}");
    }

    #[test]
    fn odd_names_travel_in_a_path() {
        assert_eq!(encoded("a b/c,ü?"), "a%20b%2Fc%2C%C3%BC%3F");
    }
}
