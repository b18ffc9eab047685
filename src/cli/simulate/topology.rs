//! The topology files of SCALE-Sim: a table of matrix products, or of convolutions that amount to some.
//!
//! The first line says which: `Layer, M, N, K,` or `Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width,
//! Channels, Num Filter, Strides,` with or without a comma at its end, a stride of the width and a ratio of sparsity
//! (of which only the dense is taken). A convolution whose name contains `DP` is one for every channel, as SCALE-Sim
//! has it.
#![forbid(unsafe_code)]

use crate::cli::refusal::refusal;
use anyhow::Result;
use csv::StringRecord;
use mixgemm::accel::array::Extents;
use std::fmt::Display;

/// The option that names the file.
const OPTION: &str = "--topology";

/// Largest number in a row.
const MOST: u64 = 1 << 32;

/// Most layers, with one for every channel of convolutions by channel.
const MOST_LAYERS: usize = 1 << 20;

/// A product of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) name: String,
    pub(super) extents: Extents,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Product,
    Convolution,
}

/// The names of the numbers in a row.
const PRODUCT: [&str; 3] = ["M", "N", "K"];
const CONVOLUTION: [&str; 7] = [
    "IFMAP Height",
    "IFMAP Width",
    "Filter Height",
    "Filter Width",
    "Channels",
    "Num Filter",
    "Strides",
];

/// A row of the file.
struct Row<'a> {
    file: &'a str,
    line: u64,
    cells: StringRecord,
}

/// The layers in this text of this file.
pub(super) fn parse(file: &str, text: &str) -> Result<Vec<Layer>> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let mut rows = Vec::new();
    for record in reader.records() {
        let cells = record.map_err(|e| refusal(OPTION, "comma-separated values", format_args!("{file} ({e})")))?;
        let line = cells.position().map_or(0, |start| line(text, start));
        if cells.iter().any(|cell| !cell.is_empty()) {
            rows.push(Row { file, line, cells });
        }
    }
    let (head, rows) = rows
        .split_first()
        .ok_or_else(|| refusal(OPTION, HEADS, format_args!("nothing in {file}")))?;
    let kind = head.kind()?;
    let mut layers = Vec::new();
    for row in rows {
        match kind {
            Kind::Product => layers.push(row.product()?),
            Kind::Convolution => row.convolution(&mut layers)?,
        }
        if layers.len() > MOST_LAYERS {
            return Err(row.refused(format_args!("at most {MOST_LAYERS} layers"), "more"));
        }
    }
    if layers.is_empty() {
        return Err(refusal(OPTION, "at least one layer", format_args!("none in {file}")));
    }
    Ok(layers)
}

/// The line of a record, whose position is that of the blank lines before it.
fn line(text: &str, start: &csv::Position) -> u64 {
    let rest = text.as_bytes().get(start.byte() as usize..).unwrap_or_default();
    let blank = rest.iter().take_while(|byte| b"\r\n".contains(byte));
    start.line() + blank.filter(|&&byte| byte == b'\n').count() as u64
}

/// What a first line may be.
const HEADS: &str = "a first line `Layer, M, N, K,` or `Layer name, IFMAP Height, IFMAP Width, ...`";

impl Row<'_> {
    /// A cell, or nothing behind the end of the line or the start of a comment.
    fn cell(&self, i: usize) -> &str {
        let mut cells = self.cells.iter().take_while(|cell| !cell.starts_with('#'));
        cells.nth(i).unwrap_or_default()
    }

    fn refused(&self, expected: impl Display, found: impl Display) -> anyhow::Error {
        refusal(
            OPTION,
            expected,
            format_args!("{found} in line {} of {}", self.line, self.file),
        )
    }

    /// What the first line says about the others.
    fn kind(&self) -> Result<Kind> {
        let names: Vec<String> = (1..4).map(|i| self.cell(i).to_ascii_lowercase()).collect();
        if names == ["m", "n", "k"] {
            return Ok(Kind::Product);
        }
        if names[0].starts_with("ifmap") && names[2].starts_with("filter") {
            return Ok(Kind::Convolution);
        }
        let found: Vec<&str> = self.cells.iter().take(4).collect();
        Err(self.refused(HEADS, format_args!("`{}`", found.join(", "))))
    }

    fn number(&self, i: usize, name: &str) -> Result<u64> {
        let cell = self.cell(i);
        let number = cell.parse().ok().filter(|number| (1..=MOST).contains(number));
        let found = if cell.is_empty() {
            "nothing".into()
        } else {
            format!("`{cell}`")
        };
        number.ok_or_else(|| self.refused(format_args!("{name}: a whole number from 1 to {MOST}"), found))
    }

    fn numbers<const N: usize>(&self, names: [&str; N]) -> Result<[u64; N]> {
        let mut numbers = [0; N];
        for (i, (number, name)) in (1..).zip(numbers.iter_mut().zip(names)) {
            *number = self.number(i, name)?;
        }
        Ok(numbers)
    }

    /// Refuses a ratio N:M that leaves values out.
    fn check_dense(&self, cell: &str) -> Result<()> {
        let dense = cell.split_once(':').is_none_or(|(n, m)| n.trim() == m.trim());
        if dense {
            Ok(())
        } else {
            Err(self.refused("Sparsity: a dense ratio such as 1:1", format_args!("`{cell}`")))
        }
    }

    fn product(&self) -> Result<Layer> {
        let [m, n, k] = self.numbers(PRODUCT)?;
        self.check_dense(self.cell(4))?;
        Ok(Layer {
            name: self.cell(0).into(),
            extents: Extents::new(m, n, k),
        })
    }

    fn convolution(&self, layers: &mut Vec<Layer>) -> Result<()> {
        let [height, width, filter_height, filter_width, channels, filters, stride] = self.numbers(CONVOLUTION)?;
        let extra = self.cell(8);
        let stride_width = if extra.is_empty() || extra.contains(':') {
            stride
        } else {
            self.number(8, "Stride Width")?
        };
        self.check_dense(extra)?;
        self.check_dense(self.cell(9))?;
        for (name, filter, input) in [("Height", filter_height, height), ("Width", filter_width, width)] {
            if filter > input {
                return Err(self.refused(format_args!("Filter {name}: at most IFMAP {name}, {input}"), filter));
            }
        }
        let places = |input: u64, filter: u64, stride: u64| (input - filter + stride).div_ceil(stride);
        let m = places(height, filter_height, stride).checked_mul(places(width, filter_width, stride_width));
        let window = filter_height.checked_mul(filter_width);
        let (name, by_channel) = (self.cell(0), self.cell(0).contains("DP"));
        let k = if by_channel {
            window
        } else {
            window.and_then(|window| window.checked_mul(channels))
        };
        let (Some(m), Some(k)) = (m, k) else {
            return Err(self.refused("a product within 64 bits", "a larger one"));
        };
        let extents = Extents::new(m, filters, k);
        if !by_channel {
            layers.push(Layer {
                name: name.into(),
                extents,
            });
        } else if layers.len() as u64 + channels > MOST_LAYERS as u64 {
            return Err(self.refused(
                format_args!("at most {MOST_LAYERS} layers"),
                format_args!("{channels} channels"),
            ));
        } else {
            layers.extend((0..channels).map(|i| Layer {
                name: format!("{name}Channel_{i}"),
                extents,
            }));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(text: &str) -> Vec<(String, [u64; 3])> {
        let layers = parse("a.csv", text).unwrap();
        layers
            .into_iter()
            .map(|l| (l.name, [l.extents.m, l.extents.n, l.extents.k]))
            .collect()
    }

    fn one(name: &str, extents: [u64; 3]) -> Vec<(String, [u64; 3])> {
        vec![(name.into(), extents)]
    }

    #[test]
    fn products_in_all_their_spellings() {
        for text in [
            "Layer Name, M, N, K,\nTest 1, 128, 64, 256,",
            "\u{feff}layer,m,n,k\r\n\r\nTest 1,128,64,256\r\n",
            "Layer, M, N, K, Sparsity,\n,,,,\nTest 1 , 128, 64,256 , 4:4,\n\n",
        ] {
            assert_eq!(layers(text), one("Test 1", [128, 64, 256]), "{text:?}");
        }
    }

    /// Resnet's first layer has a window of 7 × 7 × 3 at 110 × 110 places: (224 − 7 + 2) / 2, rounded up.
    #[test]
    fn convolutions_in_all_their_spellings() {
        let head = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides";
        for (head, row) in [
            (format!("{head},"), "Conv1,224,224,7,7,3,64,2,"),
            (head.into(), "Conv1, 224 ,224,7,7,3,64,2"),
            (
                format!("{head},,,Eh,Ew,e2\n,,,,,,,,,,,,"),
                "Conv1,224,224,7,7,3,64,2,,,110,110,12100",
            ),
            (head.into(), "Conv1,224,224,7,7,3,64,2,#strided"),
            (format!("{head}, Sparsity,"), "Conv1,224,224,7,7,3,64,2,1:1,"),
            (
                head.replace("Strides", "Stride height, Stride width"),
                "Conv1,224,224,7,7,3,64,2,2",
            ),
            (
                "Layer, IFMAP Width, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides".into(),
                "Conv1,224,224,7,7,3,64,2",
            ),
        ] {
            assert_eq!(
                layers(&format!("{head}\n{row}\n")),
                one("Conv1", [110 * 110, 64, 147]),
                "{head} {row}"
            );
        }
        let wide = layers(&format!("{head}, Stride width\nc, 15, 31, 5, 3, 2, 12, 2, 4\n"));
        assert_eq!(wide, one("c", [6 * 8, 12, 30]));
        let by_channel = layers(&format!("{head}\nDP1, 8, 8, 3, 3, 2, 1, 1\n"));
        assert_eq!(
            by_channel,
            [("DP1Channel_0".into(), [36, 1, 9]), ("DP1Channel_1".into(), [36, 1, 9])]
        );
    }

    #[test]
    fn refusals_name_file_line_and_column() {
        let conv =
            "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n";
        for (text, expected) in [
            (
                "Layer,M,N,K\na,1,x,3",
                "--topology: expected N: a whole number from 1 to 4294967296, found `x` in line 2 of a.csv",
            ),
            (
                "Layer,M,N,K\n\na,1,2",
                "--topology: expected K: a whole number from 1 to 4294967296, found nothing in line 3 of a.csv",
            ),
            (
                "Layer,M,N,K\na,1,0,3",
                "--topology: expected N: a whole number from 1 to 4294967296, found `0` in line 2 of a.csv",
            ),
            (
                "Layer,M,N,K\na,1,2,3,2:4",
                "--topology: expected Sparsity: a dense ratio such as 1:1, found `2:4` in line 2 of a.csv",
            ),
            ("Layer,M,K,N\na,1,2,3", "found `Layer, M, K, N` in line 1 of a.csv"),
            ("a,1,2,3", "found `a, 1, 2, 3` in line 1 of a.csv"),
            ("", "found nothing in a.csv"),
            (
                "Layer,M,N,K\n,,,\n",
                "--topology: expected at least one layer, found none in a.csv",
            ),
            (
                &format!("{conv}c,8,8,9,3,1,1,1"),
                "--topology: expected Filter Height: at most IFMAP Height, 8, found 9 in line 2 of a.csv",
            ),
            (
                &format!("{conv}AlphaGoZero,"),
                "--topology: expected IFMAP Height: a whole number from 1 to 4294967296, found nothing in line 2 of a.csv",
            ),
            (
                &format!("{conv}c,4294967296,4294967296,1,1,1,1,1"),
                "--topology: expected a product within 64 bits, found a larger one in line 2 of a.csv",
            ),
            (
                &format!("{conv}DP,8,8,1,1,4294967296,1,1"),
                "--topology: expected at most 1048576 layers, found 4294967296 channels in line 2 of a.csv",
            ),
        ] {
            let error = parse("a.csv", text).unwrap_err().to_string();
            assert!(
                error.starts_with("--topology: expected ") && error.ends_with(expected),
                "{error}"
            );
        }
    }
}
