//! Static scales that leave a share of the channels out, and what they do to a real layer.
#![forbid(unsafe_code)]

use mixgemm::outlier::calibration::{ScaleRule, Statistics, calibrate};
use mixgemm::outlier::split::Split;
use mixgemm::quant::figures::product_f64;
use mixgemm::{Backend, Epilogue, Figures, Host, Mat, Mode, QuantMatrix, Scheme, f16};
use safetensors::SafeTensors;

#[test]
fn a_share_of_the_channels_is_left_out_rounded_up() {
    let mut seen = Statistics::new(10);
    let x = Mat::from_fn(3, 10, |m, k| if m == 1 { -127.0 * (k as f32 + 1.0) } else { 1.0 });
    seen.add(x.view().into()).unwrap();
    for (share, scale) in [(0.0, 10.0), (0.01, 9.0), (0.1, 9.0), (0.11, 8.0), (0.9, 1.0)] {
        assert_eq!(seen.scale(ScaleRule::Channels(share)).unwrap(), scale, "{share}");
    }
    for share in [0.91, 1.0, -0.1, f64::NAN] {
        let error = seen.scale(ScaleRule::Channels(share)).unwrap_err().to_string();
        assert!(
            error.starts_with("share of channels: expected at least 0 and less than all of 10"),
            "{error}"
        );
    }
    assert!(Statistics::new(0).scale(ScaleRule::Channels(0.0)).is_err());
}

fn tensor(layer: &SafeTensors<'_>, name: &str) -> Mat<f32> {
    let view = layer.tensor(name).unwrap();
    let values = view
        .data()
        .as_chunks::<2>()
        .0
        .iter()
        .map(|&b| f16::from_le_bytes(b).to_f32());
    Mat::from_vec(values.collect(), view.shape()[0], view.shape()[1]).unwrap()
}

/// Layer 4 of all-MiniLM-L6-v2, calibrated on its first 145 tokens and measured on the others, 8-bit weights per channel.
#[test]
fn a_real_layer_loses_by_clamping_what_the_split_keeps() {
    let bytes = include_bytes!("data/minilm-layer4.safetensors");
    let layer = SafeTensors::deserialize(bytes).unwrap();
    for matrix in ["up", "down"] {
        let (w, x) = (
            tensor(&layer, &format!("{matrix}.weight")),
            tensor(&layer, &format!("{matrix}.input")),
        );
        let (sample, rest) = (x.view().sub_rows(0, 145).unwrap(), x.view().sub_rows(145, 145).unwrap());
        let truth = product_f64(rest, w.view()).unwrap();
        let host = Split::new(Host::new());
        let prepared = host
            .prepare(&QuantMatrix::quantize(w.view(), Scheme::int(8)).unwrap())
            .unwrap();
        let sqnr = |rule, saturate| {
            let scale = calibrate(x.cols(), rule, || [sample.into()]).unwrap().scale;
            let mut y = Mat::<f32>::zeros(145, w.rows());
            let mode = Mode::A8Static { scale, saturate };
            host.run(&prepared, rest.into(), mode, &Epilogue::new(), y.view_mut().into())
                .unwrap();
            Figures::between(truth.view(), y.view()).unwrap().sqnr_db
        };
        let outside = ScaleRule::Channels(0.003);
        let (all, clamped, split) = (sqnr(ScaleRule::Max, true), sqnr(outside, true), sqnr(outside, false));
        assert!(
            split > all + 3.0 && split > clamped + 1.0,
            "{matrix}: {all} {clamped} {split}"
        );
    }
}
