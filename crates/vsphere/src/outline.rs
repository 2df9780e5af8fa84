//! The outline of an answer: what a parser would have to build of it, counted before one does.
//!
//! A parser compares the attributes of an element with each other, and hands all namespaces in scope on to each element
//! that declares one: a few hundred KiB of them would keep it busy for a minute, and an answer of the largest size for
//! days. So it only gets to see answers whose costs grow with their length; one pass over the bytes decides that.

/// Nodes in one answer; a VM has about a thousand, and a page a hundred VMs.
pub(crate) const MAX_NODES: u32 = 2_000_000;

/// Tags of an answer, an opening and a closing one of each element; a parser makes room for as many nodes.
const MAX_TAGS: usize = 2 * MAX_NODES as usize;

/// Equals signs of an answer; a parser makes room for as many attributes.
const MAX_EQUALS: usize = MAX_NODES as usize;

/// Attributes of one element, declarations of namespaces among them; an envelope has five.
const MAX_ATTRIBUTES: usize = 16;

/// Prefixes in scope at one element; a server uses about six.
const MAX_PREFIXES: usize = 16;

/// Elements within each other; a tree of snapshots may be 32 deep, and a chain of backings some hundred.
const MAX_DEPTH: usize = 512;

/// Why an answer is not parsed at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Excess {
    #[error("it has a document type")]
    DocumentType,
    #[error("it has more than {MAX_TAGS} tags")]
    Tags,
    #[error("it has more than {MAX_EQUALS} equals signs")]
    Equals,
    #[error("an element has more than {MAX_ATTRIBUTES} attributes")]
    Attributes,
    #[error("more than {MAX_PREFIXES} prefixes are in scope at one element")]
    Prefixes,
    #[error("its elements lie more than {MAX_DEPTH} deep in each other")]
    Depth,
}

/// Whether an answer is one that a parser is done with in a time that grows with its length.
///
/// It reads XML as a parser does as long as that is well-formed; after that, a parser has ended.
pub(crate) fn check(xml: &str) -> Result<(), Excess> {
    let bytes = xml.as_bytes();
    let count = |wanted: u8| bytes.iter().filter(|it| **it == wanted).count();
    if count(b'<') > MAX_TAGS {
        return Err(Excess::Tags);
    }
    if count(b'=') > MAX_EQUALS {
        return Err(Excess::Equals);
    }
    let mut open = Open::default();
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|it| *it == b'<') {
        let tag = rest.get(at..).unwrap_or_default();
        rest = if tag.starts_with(b"<!--") {
            after(tag, 4, b"-->")
        } else if tag.starts_with(b"<![CDATA[") {
            after(tag, 9, b"]]>")
        } else if tag.starts_with(b"<!") {
            return Err(Excess::DocumentType);
        } else if tag.starts_with(b"<?") {
            after(tag, 2, b"?>")
        } else if tag.starts_with(b"</") {
            open.close();
            after(tag, 2, b">")
        } else {
            open.begin(tag)?
        };
    }
    Ok(())
}

/// What follows the first `end` that comes after `from` bytes; nothing where there is none.
fn after<'x>(text: &'x [u8], from: usize, end: &[u8]) -> &'x [u8] {
    let text = text.get(from..).unwrap_or_default();
    let at = text.windows(end.len()).position(|it| it == end);
    at.and_then(|at| text.get(at + end.len()..)).unwrap_or_default()
}

/// The elements that are open at one place of an answer.
#[derive(Default)]
struct Open<'x> {
    /// Prefixes in scope, each once.
    prefixes: Vec<&'x [u8]>,
    /// How many prefixes were in scope before each open element.
    before: Vec<usize>,
}

impl<'x> Open<'x> {
    fn close(&mut self) {
        if let Some(before) = self.before.pop() {
            self.prefixes.truncate(before);
        }
    }

    /// Takes a tag that opens an element, and answers what follows it.
    fn begin(&mut self, tag: &'x [u8]) -> Result<&'x [u8], Excess> {
        self.before.push(self.prefixes.len());
        if self.before.len() > MAX_DEPTH {
            return Err(Excess::Depth);
        }
        let mut attributes = 0;
        // Where the name of the next attribute begins, and the place that is looked at.
        let (mut name, mut at) = (1, 1);
        while let Some(byte) = tag.get(at) {
            at += 1;
            match byte {
                b'"' | b'\'' => {
                    let value = tag.get(at..).unwrap_or_default();
                    let end = value.iter().position(|it| it == byte);
                    at = end.map_or(tag.len(), |end| at + end + 1);
                    name = at;
                }
                b'=' => {
                    attributes += 1;
                    if attributes > MAX_ATTRIBUTES {
                        return Err(Excess::Attributes);
                    }
                    self.attribute(tag.get(name..at - 1).unwrap_or_default())?;
                }
                b'>' => {
                    if tag.get(at - 2) == Some(&b'/') {
                        self.close();
                    }
                    return Ok(tag.get(at..).unwrap_or_default());
                }
                _ => {}
            }
        }
        Ok(&[])
    }

    /// Takes what stands before an equals sign; the name of the first attribute has that of its element before it.
    fn attribute(&mut self, name: &'x [u8]) -> Result<(), Excess> {
        let name = name.trim_ascii();
        let start = name.iter().rposition(u8::is_ascii_whitespace).map_or(0, |it| it + 1);
        let name = name.get(start..).unwrap_or_default();
        let (prefix, local) = match name.iter().position(|it| *it == b':') {
            Some(at) => {
                (name.get(..at).unwrap_or_default(), name.get(at + 1..).unwrap_or_default())
            }
            None => (&[] as &[u8], name),
        };
        let declared: &[u8] = if prefix == b"xmlns" {
            local
        } else if local == b"xmlns" {
            &[]
        } else {
            return Ok(());
        };
        if !self.prefixes.contains(&declared) {
            self.prefixes.push(declared);
        }
        if self.prefixes.len() > MAX_PREFIXES { Err(Excess::Prefixes) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
