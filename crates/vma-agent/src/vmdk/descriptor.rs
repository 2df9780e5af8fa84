//! The text of a descriptor, parsed at least as strictly as qemu parses it.
//!
//! Other readers look for words anywhere in the text and follow the file names they find.
//! Whatever one could take for an extent or a parent is therefore either understood here or refused: a disk has one
//! meaning, whoever reads it.

use super::VmdkError;

/// Bytes per sector.
pub(super) const SECTOR: u64 = 512;

/// The largest disk that is believed, in bytes: 1 PiB, sixteen times what the hypervisor allows.
pub(super) const MAX_CAPACITY: u64 = 1 << 50;
const MAX_SECTORS: u64 = MAX_CAPACITY / SECTOR;

/// The most extents that a disk may have; each is a file held open. 4,096 pieces of 2 GiB are 8 TiB.
const MAX_EXTENTS: usize = 4096;

/// The longest file name that a file system takes.
const MAX_NAME: usize = 255;

/// A parsed descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Content id: changes when a writer first writes after opening.
    pub cid: u32,
    /// The content id of the parent, where there is one.
    pub parent_cid: Option<u32>,
    /// How the disk is stored.
    pub create_type: CreateType,
    /// The parent's file, where there is one; a plain file name.
    pub parent_hint: Option<String>,
    /// The extents in order.
    pub extents: Vec<ExtentLine>,
    /// What `ddb.thinProvisioned` says.
    pub thin: Option<bool>,
}

/// One extent of a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtentLine {
    /// Its part of the disk, in sectors; never 0.
    pub sectors: u64,
    /// How it is stored.
    pub storage: Storage,
}

/// How an extent is stored; its file has a plain name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// The bytes as they are: `FLAT` and `VMFS`.
    Flat {
        /// The file.
        file: String,
        /// Where its data starts in the file, in sectors.
        offset: u64,
    },
    /// With grain tables: `SPARSE`, `VMFSSPARSE` and `SESPARSE`; the file says which.
    Sparse {
        /// The file.
        file: String,
    },
    /// Nowhere: `ZERO` reads as zeroes.
    Zero,
}

impl ExtentLine {
    /// The file, where there is one.
    pub fn file(&self) -> Option<&str> {
        match &self.storage {
            Storage::Flat { file, .. } | Storage::Sparse { file } => Some(file),
            Storage::Zero => None,
        }
    }
}

/// How a disk is stored, as `createType` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateType {
    /// One file with grain tables and the descriptor inside.
    MonolithicSparse,
    /// One file with the bytes as they are.
    MonolithicFlat,
    /// Sparse pieces of at most 2 GiB.
    TwoGbMaxExtentSparse,
    /// Flat pieces of at most 2 GiB.
    TwoGbMaxExtentFlat,
    /// Compressed, written once from front to end.
    StreamOptimized,
    /// A flat file on VMFS, thin ones included.
    Vmfs,
    /// A delta on VMFS with large grain tables.
    VmfsSparse,
    /// A delta on VMFS with small grains.
    SeSparse,
}

impl CreateType {
    fn parse(name: &str) -> Result<Self, VmdkError> {
        const KNOWN: [(&str, CreateType); 9] = [
            ("monolithicSparse", CreateType::MonolithicSparse),
            ("monolithicFlat", CreateType::MonolithicFlat),
            ("twoGbMaxExtentSparse", CreateType::TwoGbMaxExtentSparse),
            ("twoGbMaxExtentFlat", CreateType::TwoGbMaxExtentFlat),
            ("streamOptimized", CreateType::StreamOptimized),
            ("vmfs", CreateType::Vmfs),
            ("vmfsThin", CreateType::Vmfs),
            ("vmfsSparse", CreateType::VmfsSparse),
            ("seSparse", CreateType::SeSparse),
        ];
        let found = KNOWN.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found
            .map(|(_, it)| *it)
            .ok_or_else(|| VmdkError::Unsupported(format!("a disk of type `{}`", bounded(name))))
    }

    /// Whether the file holds descriptor and data together.
    pub const fn is_embedded(self) -> bool {
        matches!(self, Self::MonolithicSparse | Self::StreamOptimized)
    }
}

impl Descriptor {
    /// Parses a descriptor's text.
    pub fn parse(text: &str) -> Result<Self, VmdkError> {
        // qemu stops at the first zero byte, and an embedded descriptor is padded with them.
        let text = text.split('\0').next().unwrap_or_default();
        let mut settings = Settings::default();
        let mut extents = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let (number, line) = (index + 1, line.trim());
            let is_hint = settings.read(number, line)?;
            if !is_hint && line.to_ascii_lowercase().contains("parentfilenamehint") {
                let what = "a parent is named where none belongs";
                return Err(VmdkError::Malformed { line: number, what });
            }
            if let Some(extent) = extent_line(number, line)? {
                if extents.len() >= MAX_EXTENTS {
                    let what = format!("a disk of more than {MAX_EXTENTS} extents");
                    return Err(VmdkError::Unsupported(what));
                }
                extents.push(extent);
            }
        }
        settings.finish(extents)
    }

    /// The size of the disk in bytes.
    pub fn capacity(&self) -> u64 {
        self.extents.iter().map(|it| it.sectors * SECTOR).sum()
    }
}

/// The settings met so far; each may stand only once, because readers differ in which one they take.
#[derive(Default)]
struct Settings {
    version: Option<u32>,
    cid: Option<u32>,
    parent_cid: Option<u32>,
    create_type: Option<CreateType>,
    parent_hint: Option<String>,
    thin: Option<bool>,
}

impl Settings {
    /// Reads one line; says whether it was the parent's name.
    fn read(&mut self, line: usize, text: &str) -> Result<bool, VmdkError> {
        let Some((key, value)) = text.split_once('=') else { return Ok(false) };
        let (key, value) = (key.trim().to_ascii_lowercase(), unquoted(value));
        let malformed = |what| VmdkError::Malformed { line, what };
        let once =
            |fresh: bool| if fresh { Ok(()) } else { Err(malformed("a setting is given twice")) };
        let hex = |text: &str| {
            u32::from_str_radix(text, 16).map_err(|_| malformed("a content id is expected"))
        };
        match key.as_str() {
            "version" => {
                once(self.version.is_none())?;
                self.version = Some(value.parse().map_err(|_| malformed("a number is expected"))?);
            }
            "cid" => {
                once(self.cid.is_none())?;
                self.cid = Some(hex(value)?);
            }
            "parentcid" => {
                once(self.parent_cid.is_none())?;
                self.parent_cid = Some(hex(value)?);
            }
            "createtype" => {
                once(self.create_type.is_none())?;
                self.create_type = Some(CreateType::parse(value)?);
            }
            "parentfilenamehint" => {
                once(self.parent_hint.is_none())?;
                self.parent_hint = Some(plain_name(value)?.to_owned());
                return Ok(true);
            }
            "ddb.thinprovisioned" => self.thin = Some(value == "1"),
            _ => (),
        }
        Ok(false)
    }

    fn finish(self, extents: Vec<ExtentLine>) -> Result<Descriptor, VmdkError> {
        let version = self.version.ok_or(VmdkError::Missing("version"))?;
        // Version 4 differs only in settings that do not touch the layout; later ones are unknown.
        if !(1..=4).contains(&version) {
            return Err(VmdkError::Unsupported(format!("descriptor version {version}")));
        }
        let parent_cid = self.parent_cid.filter(|it| *it != u32::MAX);
        if parent_cid.is_some() != self.parent_hint.is_some() {
            return Err(VmdkError::Missing("pair of parentCID and parentFileNameHint"));
        }
        let sectors = extents.iter().try_fold(0_u64, |sum, it| sum.checked_add(it.sectors));
        match sectors {
            Some(1..=MAX_SECTORS) => (),
            Some(0) => return Err(VmdkError::Missing("extent: its capacity is 0")),
            _ => return Err(VmdkError::Unsupported("a disk of more than 1 PiB".to_owned())),
        }
        Ok(Descriptor {
            cid: self.cid.ok_or(VmdkError::Missing("CID"))?,
            parent_cid,
            create_type: self.create_type.ok_or(VmdkError::Missing("createType"))?,
            parent_hint: self.parent_hint,
            extents,
            thin: self.thin,
        })
    }
}

/// Reads `RW 8192 SPARSE "name.vmdk" 0`; nothing for a line that is no extent.
fn extent_line(line: usize, text: &str) -> Result<Option<ExtentLine>, VmdkError> {
    let malformed = |what| VmdkError::Malformed { line, what };
    let (access, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let known = ["RW", "RDONLY", "NOACCESS"].iter().any(|it| it.eq_ignore_ascii_case(access));
    if !known {
        return Ok(None);
    }
    if access != "RW" {
        return Err(VmdkError::Unsupported(format!("an extent with access {access}")));
    }
    let (sectors, rest) = rest
        .trim_start()
        .split_once(char::is_whitespace)
        .ok_or(malformed("an extent needs a size and a type"))?;
    let sectors =
        sectors.parse().map_err(|_| malformed("an extent's size is a number of sectors"))?;
    let rest = rest.trim_start();
    let (kind, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let storage = match kind {
        "FLAT" | "VMFS" => {
            let (file, offset) = file_and_offset(line, rest)?;
            Storage::Flat { file, offset }
        }
        "SPARSE" | "VMFSSPARSE" | "SESPARSE" => match file_and_offset(line, rest)? {
            (file, 0) => Storage::Sparse { file },
            _ => return Err(malformed("an offset in a sparse extent")),
        },
        "ZERO" if rest.trim().is_empty() => Storage::Zero,
        other => {
            return Err(VmdkError::Unsupported(format!("an extent of type `{}`", bounded(other))));
        }
    };
    if sectors == 0 {
        return Err(malformed("an extent of size 0"));
    }
    Ok(Some(ExtentLine { sectors, storage }))
}

/// Reads `"name.vmdk" 128`; the offset, in sectors, may be missing.
fn file_and_offset(line: usize, text: &str) -> Result<(String, u64), VmdkError> {
    let malformed = |what| VmdkError::Malformed { line, what };
    let named = text.trim_start().strip_prefix('"').and_then(|it| it.split_once('"'));
    let (file, rest) = named.ok_or(malformed("an extent names its file in quotes"))?;
    let offset = match rest.split_whitespace().next() {
        Some(offset) => {
            offset.parse().map_err(|_| malformed("an extent's offset is a number of sectors"))?
        }
        None => 0,
    };
    Ok((plain_name(file)?.to_owned(), offset))
}

/// Admits a file name that cannot leave its directory.
pub(super) fn plain_name(name: &str) -> Result<&str, VmdkError> {
    let plain = !name.is_empty()
        && name.len() <= MAX_NAME
        && !matches!(name, "." | "..")
        && !name.contains(['/', '\\'])
        && !name.contains(char::is_control);
    if plain { Ok(name) } else { Err(VmdkError::NotPlain(bounded(name))) }
}

fn unquoted(value: &str) -> &str {
    let value = value.trim();
    match value.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').map_or(quoted, |(inside, _)| inside),
        None => value,
    }
}

/// The beginning of a text from a file, short and harmless enough for an error.
pub(super) fn bounded(text: &str) -> String {
    text.chars().take(120).map(|it| if it.is_control() { '?' } else { it }).collect()
}
