//! The program as a user meets it: results on the user's own tensors, and one line for everything that is refused.
#![cfg(feature = "cli")]
#![forbid(unsafe_code)]

mod bench;
mod cache;
mod calibration;
mod devices;
mod doctor;
mod embed;
mod explore;
mod explore_runs;
mod migrate;
mod mixpe_sim;
mod npu;
mod outliers;
mod provenance;
mod refusals;
mod results;
mod simulate;
mod split_refusals;
mod splits;

use mixgemm::{Element, Mat, bf16, f16};
use safetensors::tensor::{Dtype, TensorView, serialize};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use tempfile::TempDir;

const M: usize = 5;
const N: usize = 9;
const K: usize = 70;

/// A matrix of varied values, some large, some zero.
fn varied(rows: usize, cols: usize, seed: usize) -> Mat<f32> {
    Mat::from_fn(rows, cols, |r, c| {
        let h = (r * 7919 + c * 104_729 + seed * 31) % 4093;
        let x = (h as f32 - 2046.0) / 512.0;
        if h.is_multiple_of(17) { 8.0 * x } else { x }
    })
}

fn rounded<T: Element>(x: &Mat<f32>) -> Mat<T> {
    Mat::from_fn(x.rows(), x.cols(), |r, c| T::from_f32(x.view().row(r)[c]))
}

fn int8() -> Mat<i8> {
    Mat::from_fn(M, K, |r, c| ((r * 37 + c * 101) % 256) as u8 as i8)
}

/// The files of a test, in a directory of its own.
struct Bench {
    directory: TempDir,
}

impl Bench {
    /// `t.safetensors` with weights `w` (f16), `w32`, `wbf` and inputs `x` (f16), `x32`, `xbf`, `x8`, scales and misfits.
    fn new() -> Self {
        let (w, x) = (varied(N, K, 1), varied(M, K, 2));
        let mut nan = w.clone();
        nan.view_mut().row_mut(3)[4] = f32::NAN;
        let le32 = |x: &[f32]| x.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let le16 = |x: &Mat<f32>| {
            rounded::<f16>(x)
                .data()
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect::<Vec<u8>>()
        };
        let lebf = |x: &Mat<f32>| {
            rounded::<bf16>(x)
                .data()
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect::<Vec<u8>>()
        };
        let tensors = [
            ("w", Dtype::F16, vec![N, K], le16(&w)),
            ("w32", Dtype::F32, vec![N, K], le32(w.data())),
            ("wbf", Dtype::BF16, vec![N, K], lebf(&w)),
            ("wnan", Dtype::F32, vec![N, K], le32(nan.data())),
            ("wlarge", Dtype::F32, vec![N, K], le32(&[1e30; N * K])),
            ("x", Dtype::F16, vec![M, K], le16(&x)),
            ("x32", Dtype::F32, vec![M, K], le32(x.data())),
            ("xbf", Dtype::BF16, vec![M, K], lebf(&x)),
            (
                "x8",
                Dtype::I8,
                vec![M, K],
                int8().data().iter().map(|&v| v as u8).collect(),
            ),
            ("short", Dtype::F16, vec![M, K - 1], le16(&varied(M, K - 1, 3))),
            ("cube", Dtype::F32, vec![1, M, K], le32(x.data())),
            ("wide", Dtype::I64, vec![1, 1], vec![0; 8]),
            ("bias", Dtype::F32, vec![N], le32(varied(1, N, 4).data())),
            ("scale", Dtype::F32, vec![1], le32(&[0.0625])),
            ("scales", Dtype::F32, vec![M], le32(&[0.1, 0.2, 0.3, 0.4, 0.5])),
            ("zero", Dtype::F32, vec![1], le32(&[0.0])),
        ];
        let views = tensors
            .iter()
            .map(|(name, dtype, shape, data)| (*name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
        let bench = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        fs::write(bench.path("t.safetensors"), serialize(views, None).unwrap()).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The program in the directory of the files.
    fn command(&self, arguments: &str) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_mixgemm"));
        program.env_remove("MIXGEMM_ISA").current_dir(self.directory.path());
        program.args(arguments.split_whitespace());
        program
    }

    fn run(&self, arguments: &str) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn matmul(&self, arguments: &str) {
        let out = self.run(&format!("matmul {arguments}"));
        assert!(
            out.status.success(),
            "{arguments}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        assert!(
            out.stderr.is_empty(),
            "{arguments}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
    }

    /// One line that names argument, expected and found; exit code 2; and no new file.
    fn refused(&self, arguments: &str, argument: &str, found: &str) {
        let before = self.files();
        let out = self.run(arguments);
        let line = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2), "{arguments}: {line}");
        assert!(out.stdout.is_empty(), "{arguments}");
        assert_eq!(line.lines().count(), 1, "{arguments}: {line}");
        let head = format!("error: {argument}: expected ");
        assert!(
            line.starts_with(&head) && line.contains(", found "),
            "{arguments}: {line}"
        );
        assert!(line.contains(found), "{arguments}: {line}");
        assert!(
            !line.contains("panicked") && !line.contains(": expected ,"),
            "{arguments}: {line}"
        );
        assert_eq!(self.files(), before, "{arguments}");
    }
}
