//! Files of a datastore, read by ranges over HTTPS.

use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::Url;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE};

use crate::client::Client;
use crate::endpoint::Endpoint;
use crate::error::VsphereError;

/// The longest page that a server refuses a file with.
const REFUSAL: usize = 64 << 10;

/// A file of a datastore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatastoreFile {
    /// Inventory path of the datacenter (`DC0`, `folder/DC0`); of a standalone host, `ha-datacenter`.
    pub datacenter: String,
    /// Name of the datastore.
    pub datastore: String,
    /// Path inside the datastore (`web/web-flat.vmdk`).
    pub path: String,
}

impl DatastoreFile {
    /// The file that holds the bytes of a disk, from its backing's name (`[store] web/web.vmdk`).
    ///
    /// None where the name is not of that kind, or leads out of its directory.
    pub fn flat_of(datacenter: &str, file_name: &str) -> Option<Self> {
        let (datastore, path) = file_name.strip_prefix('[')?.split_once("] ")?;
        let stem = path.strip_suffix(".vmdk")?;
        let plain = |it: &str| !it.is_empty() && it != "." && it != "..";
        let safe = !datastore.is_empty() && stem.split('/').all(plain);
        safe.then(|| Self {
            datacenter: datacenter.to_owned(),
            datastore: datastore.to_owned(),
            path: format!("{stem}-flat.vmdk"),
        })
    }

    fn url(&self, endpoint: &Endpoint) -> Url {
        let mut segments = vec!["folder"];
        segments.extend(self.path.split('/'));
        let mut url = endpoint.url(&segments);
        url.query_pairs_mut()
            .append_pair("dcPath", &self.datacenter)
            .append_pair("dsName", &self.datastore);
        url
    }
}

impl Client {
    /// The length of a file.
    pub async fn file_size(&self, file: &DatastoreFile) -> Result<u64, VsphereError> {
        let method = "HEAD";
        let answer = self.fetch(method, file.url(self.endpoint()), None, 0).await?;
        refuse(answer.status, StatusCode::OK, method, file)?;
        let length = answer.headers.get(CONTENT_LENGTH).and_then(|it| it.to_str().ok());
        let length = length.and_then(|it| it.parse().ok());
        let detail = "the file has no length".to_owned();
        length.ok_or(VsphereError::Garbled { method, detail })
    }

    /// Reads exactly `length` bytes at `offset`.
    pub async fn read_file(
        &self,
        file: &DatastoreFile,
        offset: u64,
        length: u32,
    ) -> Result<Bytes, VsphereError> {
        let method = "GET";
        if length == 0 {
            return Ok(Bytes::new());
        }
        let last = offset.checked_add(u64::from(length) - 1);
        let garbled = |detail: &str| VsphereError::Garbled { method, detail: detail.to_owned() };
        let last = last.ok_or_else(|| garbled("the range has no end"))?;
        let limit = usize::try_from(length).map_err(|_| garbled("the range is too long"))?;
        let url = file.url(self.endpoint());
        let answer = self.fetch(method, url, Some((offset, last)), limit.max(REFUSAL)).await?;
        // A server that ignores the range would deliver other bytes than those asked for.
        refuse(answer.status, StatusCode::PARTIAL_CONTENT, method, file)?;
        let range = answer.headers.get(CONTENT_RANGE).and_then(|it| it.to_str().ok());
        let expected = format!("bytes {offset}-{last}/");
        if !range.is_some_and(|it| it.starts_with(&expected)) || answer.body.len() != limit {
            return Err(garbled("the file was answered with another range than the one asked for"));
        }
        Ok(answer.body)
    }
}

fn refuse(
    status: StatusCode,
    expected: StatusCode,
    method: &'static str,
    file: &DatastoreFile,
) -> Result<(), VsphereError> {
    let DatastoreFile { datacenter, datastore, path } = file;
    match status {
        it if it == expected => Ok(()),
        // No file of this name, or one that is locked; vCenter 8.0.3 answers the latter for some that are neither.
        StatusCode::NOT_FOUND | StatusCode::INTERNAL_SERVER_ERROR => {
            let file = format!("`[{datastore}] {path}` of `{datacenter}`");
            Err(VsphereError::FileRefused { file, status: status.as_u16() })
        }
        StatusCode::FORBIDDEN => Err(VsphereError::NotPermitted {
            privilege: "Datastore.FileManagement".to_owned(),
            object: format!("datastore `{datastore}`"),
        }),
        other => {
            let detail = format!("`[{datastore}] {path}`: HTTP status {}", other.as_u16());
            Err(VsphereError::Garbled { method, detail })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_disk_is_named_by_its_backing() {
        let file = DatastoreFile::flat_of("DC 0", "[data store] my vm/disk?1.vmdk").unwrap();
        assert_eq!(
            (file.datastore.as_str(), file.path.as_str()),
            ("data store", "my vm/disk?1-flat.vmdk")
        );
        let url = file.url(&Endpoint::parse("vc").unwrap());
        let expected = "https://vc/folder/my%20vm/disk%3F1-flat.vmdk?dcPath=DC+0&dsName=data+store";
        assert_eq!(url.as_str(), expected);
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        for name in [
            "",
            "x.vmdk",
            "[] x.vmdk",
            "[a] ",
            "[a] ../x.vmdk",
            "[a] /x.vmdk",
            "[a] x/../y.vmdk",
            "[a] x.raw",
            "[a] .vmdk",
            "[a] x//y.vmdk",
        ] {
            assert_eq!(DatastoreFile::flat_of("DC0", name), None, "{name}");
        }
    }
}
