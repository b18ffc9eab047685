//! The layer against calling mixgemm directly (the same bits) and against candle's f32 (a bound on the noise).

use candle_core::{DType, Device, Module, Result, Tensor};
use candle_linear::Linear;
use mixgemm::{Epilogue, Host, Mat, MatRef, Mode, QuantMatrix, Scheme, Workspace};

const N: usize = 48;
const K: usize = 96;

fn random(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap()
}

fn scheme() -> Scheme {
    Scheme::int(4).group(32).asymmetric()
}

fn layer(weight: &Tensor, bias: &Tensor, mode: Mode) -> Linear {
    Linear::quantize(&Host::new(), weight, Some(bias), scheme(), mode).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.to_dtype(DType::F32).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// `x · Wᵀ + bias` by mixgemm alone, for dense f32 rows.
fn direct(weight: &Tensor, bias: &Tensor, mode: Mode, x: &Tensor) -> Vec<f32> {
    let (weight, bias, x) = (values(weight), values(bias), values(x));
    let w = QuantMatrix::quantize(MatRef::row_major(&weight, N, K).unwrap(), scheme()).unwrap();
    let m = x.len() / K;
    let mut y = Mat::<f32>::zeros(m, N);
    let plan = Host::new().prepare(&w).unwrap().plan(mode).unwrap();
    let (x, epilogue) = (MatRef::row_major(&x, m, K).unwrap(), Epilogue::new().bias(&bias));
    plan.run(&mut Workspace::new(), x.into(), &epilogue, y.view_mut().into())
        .unwrap();
    y.data().to_vec()
}

#[test]
fn every_shape_and_stride_has_the_bits_of_mixgemm() -> Result<()> {
    let (weight, bias) = (random(&[N, K]), random(&[N]));
    let wide = random(&[4, 3, K + 5]);
    let inputs = [
        random(&[K]),
        random(&[1, K]),
        random(&[5, K]),
        random(&[2, 3, K]),
        random(&[0, K]),
        random(&[K, 6]).t()?,
        random(&[3, 2, K]).transpose(0, 1)?,
        wide.narrow(2, 3, K)?,
        wide.narrow(0, 1, 2)?.narrow(2, 5, K)?,
        wide.narrow(1, 1, 2)?.narrow(2, 0, K)?,
        random(&[1, K]).broadcast_as((4, K))?,
        random(&[2, 1, K]).broadcast_as((2, 3, K))?,
    ];
    for mode in [Mode::A8, Mode::A16] {
        let layer = layer(&weight, &bias, mode);
        for x in &inputs {
            let y = layer.forward(x)?;
            let mut dims = x.dims().to_vec();
            *dims.last_mut().unwrap() = N;
            assert_eq!(y.dims(), dims);
            assert_eq!(
                bits(&values(&y)),
                bits(&direct(&weight, &bias, mode, x)),
                "{:?}",
                x.layout()
            );
        }
    }
    Ok(())
}

#[test]
fn half_types_come_back_as_they_went_in() -> Result<()> {
    let (weight, bias) = (random(&[N, K]), random(&[N]));
    let layer = layer(&weight, &bias, Mode::A16);
    for dtype in [DType::F16, DType::BF16] {
        let x = random(&[2, 3, K]).to_dtype(dtype)?;
        let y = layer.forward(&x)?;
        assert_eq!((y.dtype(), y.dims()), (dtype, &[2, 3, N][..]));
        // Halves widen exactly, so only the last rounding differs.
        let expected = Tensor::from_vec(direct(&weight, &bias, Mode::A16, &x), (6, N), &Device::Cpu)?;
        assert_eq!(values(&y), values(&expected.to_dtype(dtype)?));
    }
    let x = random(&[3, K]).to_dtype(DType::F16)?;
    let exact = layer.mode(Mode::Exact).unwrap();
    assert_eq!(exact.forward(&x)?.dims(), [3, N]);
    Ok(())
}

#[test]
fn the_noise_is_that_of_the_weights() -> Result<()> {
    let (weight, bias, x) = (random(&[N, K]), random(&[N]), random(&[64, K]));
    let exact = values(&x.matmul(&weight.t()?)?.broadcast_add(&bias)?);
    for (bits, mode, least) in [
        (4, Mode::A8, 18.0),
        (4, Mode::A16, 18.0),
        (8, Mode::A8, 33.0),
        (8, Mode::A16, 40.0),
    ] {
        let scheme = Scheme::int(bits).group(32).asymmetric();
        let y = values(
            &Linear::quantize(&Host::new(), &weight, Some(&bias), scheme, mode)
                .unwrap()
                .forward(&x)?,
        );
        let energy = |v: &mut dyn Iterator<Item = f32>| v.map(|v| f64::from(v).powi(2)).sum::<f64>();
        let signal = energy(&mut exact.iter().copied());
        let noise = energy(&mut exact.iter().zip(&y).map(|(e, y)| e - y));
        let sqnr = 10.0 * (signal / noise).log10();
        assert!(sqnr > least, "{bits} bits, {mode:?}: {sqnr:.1} dB");
    }
    Ok(())
}

#[test]
fn a_layer_travels_and_refuses_what_does_not_fit() {
    fn travels<T: Clone + Send + Sync + 'static>(_: &T) {}
    let (weight, bias) = (random(&[N, K]), random(&[N]));
    let layer = layer(&weight, &bias, Mode::A8);
    travels(&layer);
    let x = random(&[5, K]);
    let expected = values(&layer.forward(&x).unwrap());
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| assert_eq!(values(&layer.clone().forward(&x).unwrap()), expected));
        }
    });
    let error = layer.forward(&random(&[5, K + 1])).unwrap_err().to_string();
    assert!(error.contains("97") && error.contains("96"), "{error}");
    let integers = Tensor::zeros((5, K), DType::U32, &Device::Cpu).unwrap();
    assert!(layer.forward(&integers).is_err());
    let short = Linear::quantize(&Host::new(), &weight, Some(&random(&[N - 1])), scheme(), Mode::A8);
    assert!(short.unwrap_err().to_string().starts_with("bias"));
    let exact = layer.mode(Mode::Exact).unwrap().forward(&x);
    assert!(exact.is_err(), "f32 input has no exact mode");
}
