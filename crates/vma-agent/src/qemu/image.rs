//! How a chain is described to qemu, so that it opens exactly what was checked.

use serde_json::{Value, json};

use crate::vmdk::Chain;

/// A `json:` file name with driver and backing file of every layer spelled out.
///
/// Left to itself, qemu would follow the parent's name that it finds in the text, and would probe the parent's format:
/// a descriptor that it does not recognise would be served as the raw text that it is.
///
/// JSON holds text only, and a replaced byte would name another file, one that nobody has checked.
pub(super) fn file_name(chain: &Chain) -> Result<String, String> {
    let mut backing = Value::Null;
    for layer in chain.layers().iter().rev() {
        let path = layer.path.to_str().ok_or_else(|| {
            format!(
                "its path `{}` is not text in UTF-8; rename the directory",
                layer.path.display()
            )
        })?;
        let file = json!({"driver": "file", "filename": path});
        backing = json!({"driver": "vmdk", "file": file, "backing": backing});
    }
    Ok(format!("json:{backing}"))
}
