//! Just enough of Rust's grammar to tell code from comments and literals.

use std::ops::Range;

/// A source file taken apart: code with everything else blanked, and the string literals beside it.
///
/// Offsets are the same in the original, so a finding can name its line.
pub(crate) struct Source {
    code: String,
    literals: Vec<Literal>,
}

/// A string literal as it is spelled between its quotes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Literal {
    /// Offset of the first byte inside the quotes.
    pub(crate) at: usize,
    /// What stands between the quotes, escapes untouched.
    pub(crate) text: String,
}

impl Source {
    /// Takes a file apart.
    pub(crate) fn of(text: &str) -> Self {
        let mut scan =
            Scan { text: text.as_bytes(), at: 0, code: Vec::new(), literals: Vec::new() };
        scan.run();
        Self {
            code: String::from_utf8_lossy(&scan.code).into_owned(),
            literals: scan
                .literals
                .into_iter()
                .map(|range| Literal {
                    at: range.start,
                    text: text.get(range).unwrap_or_default().to_owned(),
                })
                .collect(),
        }
    }

    /// The code alone: comments, strings and characters are spaces.
    pub(crate) fn code(&self) -> &str {
        &self.code
    }

    /// The literals that begin within a range.
    pub(crate) fn literals_in(&self, range: &Range<usize>) -> impl Iterator<Item = &Literal> {
        let range = range.clone();
        self.literals.iter().filter(move |literal| range.contains(&literal.at))
    }

    /// The brace-delimited bodies that follow each `head`; a head that ends in `;` has none.
    pub(crate) fn bodies_after(&self, head: &str) -> Vec<Range<usize>> {
        let starts = self.code.match_indices(head).map(|(at, _)| at + head.len());
        starts.filter_map(|from| self.body_from(from)).collect()
    }

    /// The same file without the modules that exist only under test.
    pub(crate) fn without_tests(mut self) -> Self {
        let bodies = self.bodies_after("#[cfg(test)]");
        let mut bytes = self.code.into_bytes();
        for body in &bodies {
            for byte in bytes.get_mut(body.clone()).into_iter().flatten() {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
        }
        self.literals.retain(|literal| !bodies.iter().any(|body| body.contains(&literal.at)));
        self.code = String::from_utf8_lossy(&bytes).into_owned();
        self
    }

    fn body_from(&self, from: usize) -> Option<Range<usize>> {
        let rest = self.code.get(from..)?;
        let open = rest.find(['{', ';']).filter(|at| rest.as_bytes().get(*at) == Some(&b'{'))?;
        let mut depth = 0_usize;
        for (at, byte) in rest.bytes().enumerate().skip(open) {
            match byte {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Some(from + open..from + at + 1);
            }
        }
        None
    }
}

/// The line, counted from one, on which an offset lies.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
    code: Vec<u8>,
    literals: Vec<Range<usize>>,
}

impl Scan<'_> {
    fn run(&mut self) {
        while let Some(byte) = self.peek(0) {
            match (byte, self.peek(1)) {
                (b'/', Some(b'/')) => self.blank_until(|scan| scan.peek(0) == Some(b'\n')),
                (b'/', Some(b'*')) => self.block_comment(),
                (b'"', _) => self.string(0),
                (b'r', Some(b'"' | b'#')) if !self.inside_word() => self.raw_string(),
                (b'b' | b'c', Some(b'r'))
                    if matches!(self.peek(2), Some(b'"' | b'#')) && !self.inside_word() =>
                {
                    self.keep();
                    self.raw_string();
                }
                (b'\'', _) => self.character(),
                _ => self.keep(),
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn inside_word(&self) -> bool {
        let before = self.at.checked_sub(1).and_then(|at| self.text.get(at));
        before.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    }

    /// Keeps a byte of code; code is ASCII, so that blanking never splits a character.
    fn keep(&mut self) {
        let byte = self.peek(0).filter(u8::is_ascii).unwrap_or(b' ');
        self.code.push(byte);
        self.at += 1;
    }

    /// Blanks a byte; beyond the end of an unfinished file there is none.
    fn blank(&mut self) {
        if let Some(byte) = self.peek(0) {
            self.code.push(if byte == b'\n' { b'\n' } else { b' ' });
            self.at += 1;
        }
    }

    fn blank_until(&mut self, end: impl Fn(&Self) -> bool) {
        while self.at < self.text.len() && !end(self) {
            self.blank();
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        while self.at < self.text.len() {
            match (self.peek(0), self.peek(1)) {
                (Some(b'/'), Some(b'*')) => depth += 1,
                (Some(b'*'), Some(b'/')) => depth -= 1,
                _ => {
                    self.blank();
                    continue;
                }
            }
            self.blank();
            self.blank();
            if depth == 0 {
                return;
            }
        }
    }

    /// A string closed by a quote and as many hashes as it was opened with; escapes only without hashes.
    fn string(&mut self, hashes: usize) {
        self.blank();
        let start = self.at;
        self.blank_until_quote(hashes, true);
        self.close(start, hashes);
    }

    fn raw_string(&mut self) {
        let hashes = self.text.iter().skip(self.at + 1).take_while(|byte| **byte == b'#').count();
        if self.peek(1 + hashes) != Some(b'"') {
            // A raw identifier (`r#type`), not a string.
            self.keep();
            return;
        }
        for _ in 0..hashes + 2 {
            self.blank();
        }
        let start = self.at;
        self.blank_until_quote(hashes, false);
        self.close(start, hashes);
    }

    fn blank_until_quote(&mut self, hashes: usize, escapes: bool) {
        while self.at < self.text.len() {
            if escapes && self.peek(0) == Some(b'\\') {
                self.blank();
            } else if self.peek(0) == Some(b'"')
                && (1..=hashes).all(|it| self.peek(it) == Some(b'#'))
            {
                return;
            }
            self.blank();
        }
    }

    fn close(&mut self, start: usize, hashes: usize) {
        self.literals.push(start..self.at);
        for _ in 0..=hashes {
            self.blank();
        }
    }

    /// A character is blanked, a lifetime kept.
    fn character(&mut self) {
        let escaped = self.peek(1) == Some(b'\\');
        let width = self.peek(1).map_or(1, |byte| match byte {
            0xF0.. => 4,
            0xE0.. => 3,
            0xC0.. => 2,
            _ => 1,
        });
        if escaped {
            self.blank();
            self.blank();
            self.blank();
            self.blank_until(|scan| scan.peek(0) == Some(b'\''));
            self.blank();
        } else if self.peek(1 + width) == Some(b'\'') {
            for _ in 0..width + 2 {
                self.blank();
            }
        } else {
            self.keep();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_not_code() {
        let text = "let a = \"// {\"; // \"x\"\n/* { /* } */ */ b('\"', '\\'', b'{', 'ü'); r#\"}\"#; fn f<'a>() {}";
        let source = Source::of(text);
        assert_eq!(source.code().len(), text.len());
        assert_eq!(source.code().matches('{').count(), 1, "{}", source.code());
        assert!(source.code().contains("fn f<'a>() {}"));
        let literals: Vec<_> =
            source.literals_in(&(0..text.len())).map(|it| it.text.as_str()).collect();
        assert_eq!(literals, ["// {", "}"]);
    }

    #[test]
    fn a_body_is_found_and_a_declaration_has_none() {
        let source = Source::of(
            "trait T { fn code(&self) -> u8; }\nimpl T for X { fn code(&self) -> u8 { { 1 } } }",
        );
        let bodies = source.bodies_after("fn code(");
        assert_eq!(bodies.len(), 1);
        assert_eq!(&source.code()[bodies[0].clone()], "{ { 1 } }");
    }

    #[test]
    fn test_modules_can_be_left_out() {
        let source =
            Source::of("a(\"x\");\n#[cfg(test)]\nmod tests { b(\"y\"); }\nc();").without_tests();
        assert!(!source.code().contains('b'));
        assert!(source.code().contains("c();"));
        assert_eq!(source.literals_in(&(0..usize::MAX)).count(), 1);
    }

    #[test]
    fn an_unfinished_file_ends_the_scan() {
        for text in ["\"abc", "/* abc", "r#\"abc", "'\\", "'", "\"\\", "r#"] {
            assert_eq!(Source::of(text).code().len(), text.len(), "{text}");
        }
    }
}
