//! Reading elements of an answer: by local name in the API's namespace, never by prefix.

use roxmltree::Node;

use crate::MoRef;

/// The namespace of `xsi:type`, whatever its prefix is.
const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// Text of somebody else's is kept up to here.
const MAX_TEXT: usize = 4096;

/// What is asked of an element.
pub(crate) trait Element<'a, 'i: 'a>: Sized {
    /// The first child of a name.
    fn child(self, name: &str) -> Option<Node<'a, 'i>>;
    /// All children of a name.
    fn children_named(self, name: &str) -> impl Iterator<Item = Node<'a, 'i>>;
    /// The text of a child; unset and empty are both none.
    fn text_of(self, name: &str) -> Option<String>;
    /// A child that is a number.
    fn number_of<T: std::str::FromStr>(self, name: &str) -> Option<T>;
    /// A child that is a boolean.
    fn flag_of(self, name: &str) -> Option<bool>;
    /// A child that is a reference.
    fn moref_of(self, name: &str) -> Option<MoRef>;
    /// The element itself as a reference: `type` without a namespace is the object's kind.
    fn moref(self) -> Option<MoRef>;
    /// What `xsi:type` says, without the prefix of the name in it.
    fn xsi_type(self) -> Option<String>;
    /// Its own text.
    fn content(self) -> Option<String>;
}

impl<'a, 'i: 'a> Element<'a, 'i> for Node<'a, 'i> {
    fn child(self, name: &str) -> Option<Node<'a, 'i>> {
        self.children().find(|it| it.is_element() && it.tag_name().name() == name)
    }

    fn children_named(self, name: &str) -> impl Iterator<Item = Node<'a, 'i>> {
        self.children().filter(move |it| it.is_element() && it.tag_name().name() == name)
    }

    fn text_of(self, name: &str) -> Option<String> {
        self.child(name)?.content()
    }

    fn number_of<T: std::str::FromStr>(self, name: &str) -> Option<T> {
        self.child(name)?.text()?.trim().parse().ok()
    }

    fn flag_of(self, name: &str) -> Option<bool> {
        flag(self.child(name)?)
    }

    fn moref_of(self, name: &str) -> Option<MoRef> {
        self.child(name)?.moref()
    }

    fn moref(self) -> Option<MoRef> {
        let kind = self.attributes().find(|it| it.name() == "type" && it.namespace().is_none())?;
        let value = self.text()?;
        let bounded = kind.value().len() <= MAX_TEXT && value.len() <= MAX_TEXT;
        (bounded && !value.is_empty()).then(|| MoRef::new(kind.value(), value))
    }

    fn xsi_type(self) -> Option<String> {
        let name = self.attribute((XSI, "type"))?;
        let local = name.rsplit_once(':').map_or(name, |(_, local)| local);
        Some(local.chars().take(MAX_TEXT).collect())
    }

    fn content(self) -> Option<String> {
        let text = self.text()?;
        (!text.is_empty()).then(|| text.chars().take(MAX_TEXT).collect())
    }
}

/// The element's own text as a boolean.
pub(crate) fn flag(node: Node<'_, '_>) -> Option<bool> {
    match node.text()?.trim() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}
