//! One tensor of a safetensors file. The header and the bytes of the tensor are read into memory, and no others, so a
//! small tensor of a large checkpoint is cheap and nobody can change its bytes afterwards.
#![forbid(unsafe_code)]

use crate::cli::refusal::{refusal, unreadable};
use anyhow::Result;
use safetensors::tensor::{Dtype, Metadata, TensorInfo, TensorView};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Longest header that is read; the safetensors crate has the same limit.
const MAX_HEADER: u64 = 100_000_000;

/// A tensor's description and its bytes.
#[derive(Debug)]
pub(crate) struct Stored {
    info: TensorInfo,
    bytes: Vec<u8>,
}

impl Stored {
    /// Reads a tensor.
    pub(crate) fn read(argument: &str, path: &Path, tensor: &str) -> Result<Self> {
        let unreadable = |e: io::Error| unreadable(argument, "a readable safetensors file", path, &e);
        let (mut file, length) = open(path).map_err(unreadable)?;
        let (start, info) = found(argument, path, tensor, &mut file, length)?;
        let (first, end) = info.data_offsets;
        let mut bytes = vec![0; end - first];
        file.seek(SeekFrom::Start(start + first as u64)).map_err(unreadable)?;
        file.read_exact(&mut bytes).map_err(unreadable)?;
        Ok(Self { info, bytes })
    }

    /// The shape of a tensor, whose bytes are not read.
    pub(crate) fn shape(argument: &str, path: &Path, tensor: &str) -> Result<Vec<usize>> {
        let unreadable = |e: io::Error| unreadable(argument, "a readable safetensors file", path, &e);
        let (mut file, length) = open(path).map_err(unreadable)?;
        Ok(found(argument, path, tensor, &mut file, length)?.1.shape)
    }

    /// Names and shapes of all tensors in a file, sorted by name.
    pub(crate) fn list(argument: &str, path: &Path) -> Result<Vec<(String, Vec<usize>)>> {
        let unreadable = |e: io::Error| unreadable(argument, "a readable safetensors file", path, &e);
        let (mut file, length) = open(path).map_err(unreadable)?;
        let (_, metadata) = header(&mut file, length).map_err(unreadable)?;
        let shape = |name: &String| metadata.info(name).map_or_else(Vec::new, |info| info.shape.clone());
        let names = metadata.offset_keys();
        let mut list: Vec<_> = names.into_iter().map(|name| (name.clone(), shape(&name))).collect();
        list.sort_unstable();
        Ok(list)
    }

    /// Names and columns of the float matrices in a file, sorted by name.
    pub(crate) fn floats(argument: &str, path: &Path) -> Result<Vec<(String, usize)>> {
        let unreadable = |e: io::Error| unreadable(argument, "a readable safetensors file", path, &e);
        let (mut file, length) = open(path).map_err(unreadable)?;
        let (_, metadata) = header(&mut file, length).map_err(unreadable)?;
        let of = |name: String| {
            let info = metadata.info(&name)?;
            match (info.dtype, info.shape.as_slice()) {
                (Dtype::F32 | Dtype::F16 | Dtype::BF16, &[_, k]) => Some((name, k)),
                _ => None,
            }
        };
        let mut list: Vec<_> = metadata.offset_keys().into_iter().filter_map(of).collect();
        list.sort_unstable();
        Ok(list)
    }

    /// The tensor as a view.
    pub(crate) fn view(&self) -> Result<TensorView<'_>> {
        let TensorInfo { dtype, ref shape, .. } = self.info;
        Ok(TensorView::new(dtype, shape.clone(), &self.bytes)?)
    }
}

/// Where the tensors' bytes start, and what is known of one.
fn found(argument: &str, path: &Path, tensor: &str, file: &mut File, length: u64) -> Result<(u64, TensorInfo)> {
    let (start, metadata) = header(file, length).map_err(|e| {
        let found = format_args!("{} ({e})", path.display()).to_string();
        refusal(argument, "a whole safetensors file", found)
    })?;
    let Some(info) = metadata.info(tensor) else {
        let expected = format_args!("one of the tensors {}", names(&metadata)).to_string();
        return Err(refusal(argument, expected, format_args!("`{tensor}`")));
    };
    Ok((start, info.clone()))
}

/// A regular file and its length.
pub(crate) fn open(path: &Path) -> io::Result<(File, u64)> {
    // A pipe would block in `File::open`.
    if !path.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

/// Where the tensors' bytes start, and what they are.
fn header(file: &mut File, length: u64) -> io::Result<(u64, Metadata)> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut size = [0; 8];
    file.read_exact(&mut size).map_err(|_| invalid("no header"))?;
    let size = u64::from_le_bytes(size);
    let start = 8 + size.min(MAX_HEADER);
    if size > MAX_HEADER || start > length {
        return Err(invalid("a header longer than the file or than 100 MB"));
    }
    let mut json = vec![0; size as usize];
    file.read_exact(&mut json)?;
    let metadata: Metadata = serde_json::from_slice(&json)?;
    if start.checked_add(metadata.data_len() as u64) != Some(length) {
        return Err(invalid("a file of another length than its header says"));
    }
    Ok((start, metadata))
}

/// The first tensor names, sorted.
fn names(metadata: &Metadata) -> String {
    const SHOWN: usize = 12;
    let mut names = metadata.offset_keys();
    names.sort_unstable();
    let mut list = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN {
        list += &format!(" and {} more", names.len() - SHOWN);
    }
    list
}
