//! Envelopes: writing requests, and finding the answer or the fault in what came back.

use std::fmt::Write as _;

use roxmltree::{Document, Node, ParsingOptions};

use crate::MoRef;
use crate::element::Element as _;
use crate::fault::MethodFault;
use crate::outline;

/// The namespace of the API's messages.
const VIM: &str = "urn:vim25";

/// The oldest version that is served; every server accepts the messages of the versions before its own.
pub(crate) const ACTION: &str = "urn:vim25/6.5";

/// Characters that are kept of what is wrong with an answer; a parser quotes names of any length.
const MAX_DETAIL: usize = 300;

/// A request to one method.
#[derive(Clone)]
pub(crate) struct Request {
    /// The method.
    pub(crate) method: &'static str,
    /// Whether it may be sent again after a loss.
    pub(crate) repeatable: bool,
    body: String,
}

impl Request {
    /// A method that changes nothing.
    pub(crate) fn read(method: &'static str, this: &MoRef) -> Self {
        Self::new(method, this, true)
    }

    /// A method that is sent once.
    pub(crate) fn once(method: &'static str, this: &MoRef) -> Self {
        Self::new(method, this, false)
    }

    fn new(method: &'static str, this: &MoRef, repeatable: bool) -> Self {
        Self { method, repeatable, body: String::new() }.moref("_this", this)
    }

    /// Adds an element with text.
    pub(crate) fn text(mut self, name: &str, value: &str) -> Self {
        text(&mut self.body, name, value);
        self
    }

    /// Adds an element with a reference.
    pub(crate) fn moref(mut self, name: &str, value: &MoRef) -> Self {
        moref(&mut self.body, name, value);
        self
    }

    /// Adds XML that is well-formed already.
    pub(crate) fn xml(mut self, xml: &str) -> Self {
        self.body.push_str(xml);
        self
    }

    /// The whole message.
    pub(crate) fn envelope(&self) -> String {
        let Self { method, body, .. } = self;
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><e:Envelope xmlns:e=\"http://schemas.xmlsoap.org/soap/envelope/\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><e:Body><{method} xmlns=\"{VIM}\">{body}</{method}></e:Body></e:Envelope>"
        )
    }
}

/// Writes an element with text.
pub(crate) fn text(out: &mut String, name: &str, value: &str) {
    let _infallible = write!(out, "<{name}>{}</{name}>", escaped(value));
}

/// Writes an element with a reference.
pub(crate) fn moref(out: &mut String, name: &str, value: &MoRef) {
    let MoRef { kind, value } = value;
    let _infallible = write!(out, "<{name} type=\"{}\">{}</{name}>", escaped(kind), escaped(value));
}

/// Text as XML holds it; what XML cannot hold at all is left out.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            // A parser would make a line feed of it.
            '\r' => out.push_str("&#13;"),
            '\t' | '\n' => out.push(character),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {}
            _ => out.push(character),
        }
    }
    out
}

/// Why an answer has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoResult {
    /// The server names a fault.
    Fault(MethodFault),
    /// The answer is not what it should be.
    Garbled(String),
}

impl NoResult {
    /// An answer that breaks the contract.
    pub(crate) fn garbled(detail: impl Into<String>) -> Self {
        Self::Garbled(detail.into())
    }
}

/// Parses an answer, which takes a time that grows with its length; what would take longer is refused.
pub(crate) fn parse(xml: &str) -> Result<Document<'_>, NoResult> {
    let refused = |detail: String| {
        let detail: String = detail.chars().take(MAX_DETAIL).collect();
        NoResult::Garbled(format!("it is not XML as it should be: {detail}"))
    };
    outline::check(xml).map_err(|excess| refused(excess.to_string()))?;
    let limit = outline::MAX_NODES;
    let options = ParsingOptions { allow_dtd: false, nodes_limit: limit, ..Default::default() };
    Document::parse_with_options(xml, options).map_err(|error| refused(error.to_string()))
}

/// The element `<Method>Response`, or the fault in its place.
pub(crate) fn response<'a, 'i>(
    document: &'a Document<'i>,
    method: &str,
) -> Result<Node<'a, 'i>, NoResult> {
    let body = document.root_element().child("Body");
    let body = body.ok_or_else(|| NoResult::garbled("it has no body"))?;
    if let Some(fault) = body.child("Fault") {
        return Err(NoResult::Fault(envelope_fault(fault)));
    }
    let answer = body.children().find(Node::is_element);
    let answer = answer.filter(|it| it.tag_name().name().strip_suffix("Response") == Some(method));
    answer.ok_or_else(|| NoResult::garbled("it is no answer to the method"))
}

fn envelope_fault(fault: Node<'_, '_>) -> MethodFault {
    let message = fault.child("faultstring").and_then(|it| it.text());
    let detail = fault.child("detail").and_then(|it| it.children().find(Node::is_element));
    match detail {
        Some(detail) => MethodFault::decode(detail, message),
        None => MethodFault::decode(fault, message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_into_a_message_is_escaped() {
        let this = MoRef::new("Datastore", "/tmp/a<b>&\"c\"@folder-5");
        let request = Request::read("Get", &this).text("name", "a\u{1}\r\n<&>");
        let envelope = request.envelope();
        let document = parse(&envelope).unwrap();
        let body = document.root_element().child("Body").unwrap().first_element_child().unwrap();
        assert_eq!(body.tag_name().namespace(), Some(VIM));
        assert_eq!(body.moref_of("_this"), Some(this));
        assert_eq!(body.text_of("name").as_deref(), Some("a\r\n<&>"));
    }

    #[test]
    fn a_fault_is_found_whatever_its_prefixes_are() {
        let xml = r#"<S:Envelope xmlns:S="http://schemas.xmlsoap.org/soap/envelope/" xmlns:q="http://www.w3.org/2001/XMLSchema-instance"><S:Body><S:Fault><faultcode>ServerFaultCode</faultcode><faultstring>Permission to perform this operation was denied.</faultstring><detail><NoPermissionFault xmlns="urn:vim25" q:type="v:NoPermission" xmlns:v="urn:vim25"><object type="VirtualMachine">vm-7</object><privilegeId>VirtualMachine.State.CreateSnapshot</privilegeId></NoPermissionFault></detail></S:Fault></S:Body></S:Envelope>"#;
        let document = parse(xml).unwrap();
        let NoResult::Fault(fault) = response(&document, "CreateSnapshot_Task").unwrap_err() else {
            panic!("there is a fault")
        };
        assert_eq!(fault.kind, "NoPermission");
        assert_eq!(fault.privilege.as_deref(), Some("VirtualMachine.State.CreateSnapshot"));
        assert_eq!(fault.object.as_deref(), Some("VirtualMachine:vm-7"));
    }

    #[test]
    fn a_document_type_and_another_answer_are_refused() {
        let bomb = "<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>";
        assert!(matches!(parse(bomb), Err(NoResult::Garbled(_))));
        let long = format!("<a></{}>", "b".repeat(1 << 20));
        let Err(NoResult::Garbled(detail)) = parse(&long) else { panic!("it is not well-formed") };
        assert!(detail.len() < 400, "an error is no place for an answer");
        let other = "<Envelope><Body><LogoutResponse/></Body></Envelope>";
        let document = parse(other).unwrap();
        assert!(matches!(response(&document, "Login"), Err(NoResult::Garbled(_))));
        assert!(matches!(response(&parse("<a/>").unwrap(), "Login"), Err(NoResult::Garbled(_))));
    }
}
