//! Output files in the safetensors format.
#![forbid(unsafe_code)]

use crate::cli::destination::Destination;
use anyhow::Result;
use mixgemm::{Mat, QuantMatrix};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// A tensor to be written.
struct Written<'a> {
    name: &'a str,
    shape: (usize, usize),
    values: Values<'a>,
}

/// Elements to be written.
enum Values<'a> {
    /// f32 elements.
    F32(&'a [f32]),
    /// u8 elements.
    U8(&'a [u8]),
    /// i8 elements.
    I8(&'a [i8]),
}

impl Values<'_> {
    fn dtype(&self) -> &'static str {
        match self {
            Self::F32(_) => "F32",
            Self::U8(_) => "U8",
            Self::I8(_) => "I8",
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::F32(v) => 4 * v.len(),
            Self::U8(v) => v.len(),
            Self::I8(v) => v.len(),
        }
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::F32(v) => v.iter().try_for_each(|v| out.write_all(&v.to_le_bytes())),
            Self::U8(v) => out.write_all(v),
            Self::I8(v) => v.iter().try_for_each(|v| out.write_all(&v.to_le_bytes())),
        }
    }
}

/// Writes `output` and, for quantised weights, `scales`, `zeros` and `codes` with `w = scale·(code − zero)`. One
/// symmetric bit has the levels `s·(2q − 1)`: it is written as scale 2s and zero 0.5. With a book, `levels` stand in place of
/// `zeros`: `w = scale·levels[code]`.
pub(crate) fn save(
    to: &Destination,
    y: &Mat<f32>,
    w: Option<&QuantMatrix>,
    metadata: &BTreeMap<&str, String>,
) -> Result<()> {
    let mut tensors = vec![Written {
        name: "output",
        shape: (y.rows(), y.cols()),
        values: Values::F32(y.data()),
    }];
    let parts = w.map(|w| {
        let shape = (w.n(), w.groups());
        let factor = if w.scheme().is_sign_only() { 2.0 } else { 1.0 };
        let scales = Mat::from_fn(shape.0, shape.1, |n, g| factor * w.scale(n, g));
        let zeros = Mat::from_fn(shape.0, shape.1, |n, g| w.zero(n, g));
        (w, shape, scales, zeros)
    });
    if let Some((w, shape, scales, zeros)) = &parts {
        let (n, k) = (w.n(), w.k());
        let codes = ("codes", (n, k), Values::U8(w.codes()));
        let scales = ("scales", *shape, Values::F32(scales.data()));
        let written = match &w.scheme().book {
            Some(book) => [scales, codes, ("levels", (1, 16), Values::I8(book.levels()))],
            None => [scales, ("zeros", *shape, Values::F32(zeros.data())), codes],
        };
        tensors.extend(written.map(|(name, shape, values)| Written { name, shape, values }));
    }
    write(to, &tensors, metadata)
}

/// Writes matrices by name.
pub(crate) fn save_matrices(to: &Destination, matrices: &[(String, Mat<f32>)]) -> Result<()> {
    let tensors = matrices.iter().map(|(name, matrix)| Written {
        name,
        shape: (matrix.rows(), matrix.cols()),
        values: Values::F32(matrix.data()),
    });
    write(to, &tensors.collect::<Vec<_>>(), &BTreeMap::new())
}

/// Writes a file. Wider elements come first, so all are aligned; metadata
/// is sorted, so equal results are equal files.
fn write(to: &Destination, tensors: &[Written<'_>], metadata: &BTreeMap<&str, String>) -> Result<()> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), serde_json::to_value(metadata)?);
    let mut offset = 0;
    for Written { name, shape, values } in tensors {
        let end = offset + values.bytes();
        let entry = serde_json::json!({
            "dtype": values.dtype(), "shape": [shape.0, shape.1], "data_offsets": [offset, end],
        });
        header.insert((*name).into(), entry);
        offset = end;
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    to.write(|out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        tensors.iter().try_for_each(|tensor| tensor.values.write(out))
    })
}
