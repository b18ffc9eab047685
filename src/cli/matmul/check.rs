//! What `matmul` refuses before a file is opened.
#![forbid(unsafe_code)]

use super::Args;
use crate::cli::arguments::{HOST, ModeName, spelled};
use crate::cli::device;
use crate::cli::npu;
use crate::cli::refusal::refusal;
use crate::cli::split::SplitName;
use anyhow::Result;
use mixgemm::Host;

impl Args {
    /// What can be refused before a file is opened.
    pub(super) fn check(&self) -> Result<()> {
        let name = self.mode_name();
        let mode = spelled(name);
        if self.backend != HOST {
            let fast = self.fast.then(Host::new);
            device::emulated(&self.backend, name.mode(1.0, self.saturate), fast)?;
            npu::profile(&self.backend, self.profile.as_deref())?;
            if self.isa != "auto" {
                return Err(refusal("--isa", "auto with an emulated --backend", &self.isa));
            }
            if self.pack_cache.is_some() {
                let found = format!("--backend {}", self.backend);
                return Err(refusal("--pack-cache", "--backend host", found));
            }
        } else if name == ModeName::Native {
            return Err(refusal("--mode", "another with --backend host", mode));
        } else if self.fast {
            return Err(refusal("--fast", "an emulated --backend", HOST));
        } else if self.profile.is_some() {
            return Err(refusal("--profile", "--backend npu or npu+groups", HOST));
        }
        if self.group.is_none() {
            let expected = "a number, channel or tensor with this --format";
            return Err(refusal("--group", expected, "none"));
        }
        self.splitting.check(name, self.saturate)?;
        self.check_scale()?;
        if self.pack_cache.is_some() && self.splitting.split != SplitName::None {
            let found = format!("--split {}", spelled(self.splitting.split));
            return Err(refusal("--pack-cache", "--split none", found));
        }
        if self.saturate && name != ModeName::A8Static {
            return Err(refusal("--saturate", "--mode a8static", mode));
        }
        Ok(())
    }

    /// Whether the mode has the scale that it needs, and no other.
    fn check_scale(&self) -> Result<()> {
        let name = self.mode_name();
        let mode = spelled(name);
        match (name, &self.input_scale, &self.calibration) {
            (ModeName::A8Given, None, _) => {
                let expected = format_args!("FILE:TENSOR with --mode {mode}").to_string();
                Err(refusal("--input-scale", expected, "none"))
            }
            (ModeName::A8Static, None, None) => {
                let expected = "a file by `mixgemm calibrate`, or --input-scale FILE:TENSOR, with --mode a8static";
                Err(refusal("--calibration", expected, "none"))
            }
            (ModeName::A8Given | ModeName::A8Static, ..) | (_, None, None) => Ok(()),
            (_, Some(_), _) => {
                let expected = "none unless the mode is a8given or a8static";
                Err(refusal("--input-scale", expected, mode))
            }
            (_, None, Some(_)) if self.splitting.takes_calibration() => Ok(()),
            (_, None, Some(_)) => {
                let expected = "none unless the mode is a8static, --outlying calibrated or --hot given";
                Err(refusal("--calibration", expected, mode))
            }
        }
    }
}
