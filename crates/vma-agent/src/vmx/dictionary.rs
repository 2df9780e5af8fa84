//! The lines of a .vmx: `key = "value"`, keys in any case, values with `|XX` for awkward bytes.

use std::collections::HashMap;
use std::str::FromStr;

use super::MAX_VMX_LEN;

/// The longest line that is looked at; a longer one is somebody's mistake or attack.
const MAX_LINE: usize = 16 * 1024;

/// The most keys that are kept.
const MAX_KEYS: usize = 20_000;

/// Why a .vmx could not be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VmxError {
    /// More bytes than any real .vmx has.
    #[error("the .vmx file is larger than {MAX_VMX_LEN} bytes")]
    TooLarge,
    /// A line that is too long, or more keys than any real .vmx has.
    #[error("the .vmx file has {0}")]
    Excessive(&'static str),
    /// A file that has not one `key = value` line.
    #[error("the file holds no settings; it is not a .vmx file")]
    Empty,
    /// A number that is none, or out of range.
    #[error("`{key}` is not a number that makes sense")]
    BadNumber {
        /// The key, in lower case.
        key: String,
    },
    /// Two disks that would have one key.
    #[error("two disks have the key {0}")]
    DuplicateDisk(String),
    /// A place on a bus that no controller has.
    #[error("`{0}` names a place that its controller does not have")]
    BadSlot(String),
}

/// The settings of a .vmx, by lower-case key; a key given twice has its last value.
#[derive(Debug)]
pub(super) struct Dictionary {
    values: HashMap<String, String>,
}

impl Dictionary {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, VmxError> {
        if bytes.len() as u64 > MAX_VMX_LEN {
            return Err(VmxError::TooLarge);
        }
        let text = decode(bytes);
        let mut values = HashMap::new();
        for line in text.lines() {
            if line.len() > MAX_LINE {
                return Err(VmxError::Excessive("a line of more than 16 KiB"));
            }
            let Some((key, value)) = split_line(line) else { continue };
            if values.len() >= MAX_KEYS {
                return Err(VmxError::Excessive("more than 20,000 settings"));
            }
            values.insert(key.to_ascii_lowercase(), unescape(value));
        }
        if values.is_empty() { Err(VmxError::Empty) } else { Ok(Self { values }) }
    }

    /// The value of a lower-case key, unless it is absent or empty.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(|it| it.trim()).filter(|it| !it.is_empty())
    }

    pub(super) fn number<T: FromStr>(&self, key: &str) -> Result<Option<T>, VmxError> {
        let parsed = self.text(key).map(str::parse).transpose();
        parsed.map_err(|_| VmxError::BadNumber { key: key.to_owned() })
    }

    /// Whether the key says no; anything else, absence too, is not a no.
    pub(super) fn denies(&self, key: &str) -> bool {
        self.text(key).is_some_and(|it| {
            ["false", "0", "no", "off", "n", "f"].iter().any(|no| it.eq_ignore_ascii_case(no))
        })
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }
}

/// UTF-8 where it is valid, else what `.encoding` names, else with replacement characters.
fn decode(bytes: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.trim_start_matches('\u{feff}').to_owned();
    }
    let rough = String::from_utf8_lossy(bytes);
    let declared = rough.lines().filter_map(split_line).find_map(|(key, value)| {
        key.eq_ignore_ascii_case(".encoding")
            .then(|| encoding_rs::Encoding::for_label(value.as_bytes()))
            .flatten()
    });
    match declared {
        Some(encoding) => encoding.decode_without_bom_handling(bytes).0.into_owned(),
        None => rough.into_owned(),
    }
}

/// Splits `key = "value"`; nothing for comments, blank lines and lines that are neither.
fn split_line(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let (key, value) = line.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    if key.is_empty() || key.contains(char::is_whitespace) {
        return None;
    }
    let value = match value.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').map_or(quoted, |(inside, _)| inside),
        None => value,
    };
    Some((key, value))
}

/// Resolves `|XX`; what is not two hexadecimal digits stays as it is.
fn unescape(value: &str) -> String {
    if !value.contains('|') {
        return value.to_owned();
    }
    let bytes = value.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = match bytes.get(at + 1..at + 3) {
            Some(digits) if *byte == b'|' => hex::decode(digits).ok(),
            _ => None,
        };
        match escaped {
            Some(byte) => {
                plain.extend(byte);
                at += 3;
            }
            None => {
                plain.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}
