//! Answers that a parser would never be done with, and that nothing else is refused.

use proptest::prelude::*;
use roxmltree::{Document, Node};

use super::*;
use crate::soap;

/// An element with as many attributes as this, each of its own name.
fn wide(attributes: usize, name: impl Fn(usize) -> String) -> String {
    let all: Vec<_> = (0..attributes).map(|it| format!(" {}='u'", name(it))).collect();
    format!("<a{}/>", all.concat())
}

fn refused(xml: &str, expected: Excess) {
    assert_eq!(check(xml), Err(expected));
    assert!(soap::parse(xml).is_err());
}

#[test]
fn what_grows_faster_than_its_answer_is_not_parsed() {
    for (within, beyond, expected) in [
        (wide(16, |it| format!("a{it}")), wide(17, |it| format!("a{it}")), Excess::Attributes),
        (
            wide(16, |it| format!("xmlns:a{it}")),
            format!("<b xmlns:b=\"u\">{}</b>", wide(16, |it| format!("xmlns:a{it}"))),
            Excess::Prefixes,
        ),
        (nested(512), nested(513), Excess::Depth),
    ] {
        assert_eq!(check(&within), Ok(()));
        soap::parse(&within).unwrap();
        assert!(Document::parse(&beyond).is_ok(), "a parser would have gone on");
        refused(&beyond, expected);
    }
}

fn nested(depth: usize) -> String {
    format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth))
}

#[test]
fn no_room_is_made_for_what_an_answer_only_hints_at() {
    refused(&format!("<a>{}</a>", "=".repeat(MAX_EQUALS + 1)), Excess::Equals);
    refused(&format!("<a>{}", "<b/>".repeat(MAX_TAGS)), Excess::Tags);
    let nodes = format!("<a>{}</a>", "<b/>".repeat(MAX_NODES as usize));
    assert_eq!(check(&nodes), Ok(()));
    assert!(soap::parse(&nodes).is_err(), "the parser counts nodes itself");
}

#[test]
fn a_prefix_that_is_declared_again_and_again_is_one() {
    // The simulator declares one at each element that has a type.
    let typed = "<v xmlns:i='u' i:type='x'>".repeat(200);
    let xml = format!("{typed}{}", "</v>".repeat(200));
    assert_eq!(check(&xml), Ok(()));
    soap::parse(&xml).unwrap();
    let beside: Vec<_> = (0..200).map(|it| format!("<v xmlns:a{it}='u'/>")).collect();
    assert_eq!(check(&format!("<a>{}</a>", beside.concat())), Ok(()), "each goes with its element");
}

#[test]
fn tags_in_comments_values_and_text_are_none() {
    let many = wide(40, |it| format!("a{it}")).replace('\'', "");
    for xml in [
        format!("<a><!-- {many} --></a>"),
        format!("<a><![CDATA[ {many} ]]></a>"),
        format!("<?pi {many}?><a/>"),
        format!("<a b=\"{}\"/>", many.replace('<', "&lt;")),
        format!("<a b='\">' c=\"'/>\">{}</a>", many.replace('<', "&lt;")),
    ] {
        assert_eq!(check(&xml), Ok(()), "{xml}");
        soap::parse(&xml).unwrap();
    }
    refused(&format!("<!DOCTYPE a><a>{many}</a>"), Excess::DocumentType);
}

/// Pieces that a parser takes differently in different places.
fn piece() -> impl Strategy<Value = String> {
    let fixed = [
        "<a>",
        "</a>",
        "<a/>",
        "<p:a>",
        "</p:a>",
        "<a ",
        " b='1'",
        " c = \"2\"",
        " xmlns:p='u'",
        " xmlns='v'",
        " p:b='<'",
        "\txmlns:q\n=\n'>'",
        ">",
        "/>",
        "<!-- ",
        " -->",
        "-->",
        "<![CDATA[",
        "]]>",
        "<?x ",
        "?>",
        "'",
        "\"",
        "=",
        "<",
        "&amp;",
        "&#60;",
        "text",
        "<!DOCTYPE a>",
        " ",
        "\r\n",
    ];
    let declared = (0..20_u8).prop_map(|it| format!(" xmlns:n{it}='u'"));
    let attribute = (0..20_u8).prop_map(|it| format!(" b{it}='='"));
    prop_oneof![
        6 => prop::sample::select(fixed.to_vec()).prop_map(str::to_owned),
        1 => declared,
        1 => attribute,
    ]
}

/// Well-formed XML: some elements within each other, each with declarations and attributes.
fn well_formed() -> impl Strategy<Value = String> {
    let attributes = || prop::collection::btree_set(0..24_u8, 0..24);
    let tag = |declared: std::collections::BTreeSet<u8>, plain: std::collections::BTreeSet<u8>| {
        let declared = declared.iter().map(|it| format!(" xmlns:n{it}='u{it}'"));
        let plain = plain.iter().map(|it| format!("\na{it} = \"'>\""));
        declared.chain(plain).collect::<String>()
    };
    let leaf = (attributes(), attributes()).prop_map(move |(d, p)| format!("<x{}/>", tag(d, p)));
    leaf.prop_recursive(6, 24, 3, move |inner| {
        let inside = prop::collection::vec(inner, 0..3);
        (attributes(), attributes(), inside).prop_map(move |(d, p, inside)| {
            format!("<x{}>t<!--<y>-->{}<![CDATA[<z]]></x>", tag(d, p), inside.concat())
        })
    })
}

/// What a document has of the things that cost more than their length.
fn costs(document: &Document<'_>) -> (usize, usize, usize) {
    let elements = || document.descendants().filter(Node::is_element);
    // Declarations of an element stand among its attributes in the text, and not in the tree.
    let attributes = elements().map(|it| it.attributes().len()).max();
    let prefixes = elements().map(|it| it.namespaces().len()).max();
    let depth = elements().map(|it| it.ancestors().filter(Node::is_element).count()).max();
    (attributes.unwrap_or(0), prefixes.unwrap_or(0), depth.unwrap_or(0))
}

proptest! {
    /// Whatever passes, a parser never gets more of anything than was counted.
    #[test]
    fn nothing_slips_past_the_count(pieces in prop::collection::vec(piece(), 0..60)) {
        let xml = pieces.concat();
        if let (Ok(()), Ok(document)) = (check(&xml), Document::parse(&xml)) {
            let (attributes, prefixes, depth) = costs(&document);
            prop_assert!(attributes <= MAX_ATTRIBUTES && prefixes <= MAX_PREFIXES && depth <= MAX_DEPTH);
        }
    }

    /// What is within the limits passes, and what is not does not.
    #[test]
    fn only_what_is_beyond_is_refused(xml in well_formed()) {
        let document = Document::parse(&xml).unwrap();
        let (attributes, prefixes, _) = costs(&document);
        let declared = xml.split('<').map(|it| it.matches("xmlns:").count() + it.matches("\na").count());
        let in_a_tag = declared.max().unwrap_or(0);
        let fine = in_a_tag <= MAX_ATTRIBUTES && prefixes <= MAX_PREFIXES && attributes <= MAX_ATTRIBUTES;
        prop_assert_eq!(check(&xml).is_ok(), fine);
    }

    /// No bytes lead to a panic.
    #[test]
    fn any_text_is_counted(text in any::<String>()) {
        let _counted = check(&text);
    }
}
