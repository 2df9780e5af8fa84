//! Links between documents: a reader who follows one arrives.

use super::source::line_of;
use super::{Finding, Tree};

/// Every relative link that leads nowhere.
pub(crate) fn findings(tree: &Tree) -> Vec<Finding> {
    let mut all = Vec::new();
    for (path, text) in tree.ending(".md") {
        for (at, target) in relative_links(text) {
            let known = resolve(path, target).is_some_and(|file| tree.holds(&file));
            if !known {
                all.push(Finding::at(
                    path,
                    line_of(text, at),
                    format!("links to `{target}`, which is not there"),
                ));
            }
        }
    }
    all
}

/// The targets of `[text](target)` that are files, without their anchors.
fn relative_links(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.match_indices("](").filter_map(|(at, open)| {
        let rest = text.get(at + open.len()..)?;
        let target = rest.get(..rest.find(')')?)?;
        let file = target.split('#').next()?;
        // An item path of rustdoc (`crate::Item`) is checked by rustdoc itself.
        let elsewhere = file.is_empty()
            || file.contains(':')
            || file.contains(char::is_whitespace)
            || file.starts_with('/');
        (!elsewhere && file.contains(['.', '/'])).then_some((at, file))
    })
}

fn resolve(from: &str, target: &str) -> Option<String> {
    let mut parts: Vec<_> = from.split('/').collect();
    parts.pop();
    for part in target.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        let tree = Tree::of(&[("docs/a.md", text), ("docs/b/c.md", ""), ("README.md", "")]);
        findings(&tree).into_iter().map(|it| it.to_string()).collect()
    }

    #[test]
    fn links_that_arrive_pass() {
        let text = "[c](b/c.md#part) [r](../README.md) [d](b/) [w](https://example.org/x.md) [i](crate::Item) [p](#here)";
        assert_eq!(texts(text), [""; 0]);
    }

    #[test]
    fn a_link_to_nowhere_is_named() {
        assert_eq!(
            texts("One.\n[x](gone.md)"),
            ["docs/a.md:2: links to `gone.md`, which is not there"]
        );
        assert_eq!(texts("[x](../../out.md)").len(), 1);
    }
}
