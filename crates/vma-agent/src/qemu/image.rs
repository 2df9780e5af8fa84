//! How a chain is described to qemu, so that it opens exactly what was checked.

use serde_json::{Value, json};

use crate::vmdk::Chain;

/// A `json:` file name with driver and backing file of every layer spelled out.
///
/// Left to itself, qemu would follow the parent's name that it finds in the text, and would probe the parent's format:
/// a descriptor that it does not recognise would be served as the raw text that it is.
pub(super) fn file_name(chain: &Chain) -> String {
    let mut backing = Value::Null;
    for layer in chain.layers().iter().rev() {
        let file = json!({"driver": "file", "filename": layer.path.to_string_lossy()});
        backing = json!({"driver": "vmdk", "file": file, "backing": backing});
    }
    format!("json:{backing}")
}
