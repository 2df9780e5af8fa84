//! Texts that come from outside, bounded to what every database stores the same way.

/// Longest name, path or label that is kept, in characters.
pub const MAX_TEXT: usize = 255;

/// Longest id that a hypervisor may give, in characters: it stands in unique indexes.
pub const MAX_KEY: usize = 191;

/// Longest datastore path, in characters.
pub const MAX_PATH: usize = 1024;

/// Checks a text that must not be empty; surrounding white space is cut, since MariaDB ignores it in comparisons.
pub fn required(field: &'static str, text: &str, max: usize) -> Result<String, InvalidText> {
    let text = optional(field, text, max)?;
    if text.is_empty() { Err(InvalidText::Empty { field }) } else { Ok(text) }
}

/// Checks a text that may be empty.
pub fn optional(field: &'static str, text: &str, max: usize) -> Result<String, InvalidText> {
    let text = text.trim();
    if text.contains('\0') {
        return Err(InvalidText::Nul { field });
    }
    let length = text.chars().count();
    if length > max {
        return Err(InvalidText::TooLong { field, length, max });
    }
    Ok(text.to_owned())
}

/// Why a text is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    /// Nothing but white space.
    #[error("{field} is empty")]
    Empty {
        /// Which text.
        field: &'static str,
    },
    /// A NUL character, which PostgreSQL cannot store.
    #[error("{field} contains a NUL character")]
    Nul {
        /// Which text.
        field: &'static str,
    },
    /// Longer than the column.
    #[error("{field} has {length} characters, more than {max}")]
    TooLong {
        /// Which text.
        field: &'static str,
        /// Its characters.
        length: usize,
        /// How many are allowed.
        max: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_at_the_ends_and_nowhere_else() {
        assert_eq!(required("name", " web, /1 – Ж ", 255).as_deref(), Ok("web, /1 – Ж"));
        assert_eq!(required("name", "  ", 255), Err(InvalidText::Empty { field: "name" }));
        assert_eq!(optional("name", "a\0", 255), Err(InvalidText::Nul { field: "name" }));
    }

    #[test]
    fn trap_c23_length_counts_characters_not_bytes() {
        let name = "Ж".repeat(255);
        assert_eq!(required("name", &name, 255), Ok(name.clone()));
        assert!(required("name", &(name + "x"), 255).is_err());
    }
}
