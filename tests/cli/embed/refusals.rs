//! Models, texts and options that `embed` refuses.

use super::{TINY, texts};
use crate::Bench;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Copies the model into the directory `name` of a bench, with one tensor changed or left out.
fn copy(b: &Bench, name: &str, tensor: &str, change: impl Fn(&mut Vec<usize>, &mut Vec<f32>) -> bool) {
    let to = b.path(name);
    fs::create_dir_all(&to).unwrap();
    for file in ["config.json", "tokenizer.json"] {
        fs::copy(Path::new(TINY).join(file), to.join(file)).unwrap();
    }
    let bytes = fs::read(Path::new(TINY).join("model.safetensors")).unwrap();
    let mut tensors = Vec::new();
    for (found, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
        let mut values = view
            .data()
            .as_chunks::<4>()
            .0
            .iter()
            .map(|&b| f32::from_le_bytes(b))
            .collect();
        let mut shape = view.shape().to_vec();
        if found != tensor || change(&mut shape, &mut values) {
            let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            tensors.push((found, shape, bytes));
        }
    }
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    fs::write(to.join("model.safetensors"), serialize(views, None).unwrap()).unwrap();
}

#[test]
fn a_directory_without_such_a_model_is_refused() {
    let b = Bench::new();
    let query = "encoder.layer.1.attention.self.query.weight";
    copy(&b, "whole", "", |_, _| true);
    copy(&b, "missing", query, |_, _| false);
    copy(&b, "shape", query, |shape, values| {
        shape[0] = 31;
        values.truncate(31 * 32);
        true
    });
    copy(&b, "nan", "embeddings.LayerNorm.bias", |_, values| {
        values[3] = f32::NAN;
        true
    });
    assert!(b.run("embed --model whole cat").status.success());
    let config = fs::read_to_string(b.path("whole/config.json")).unwrap();
    let changed = |name: &str, file: &str, content: &str| {
        copy(&b, name, "", |_, _| true);
        let path = b.path(name).join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    changed("roberta", "config.json", &config.replace("\"bert\"", "\"roberta\""));
    changed("relu", "config.json", &config.replace("\"gelu\"", "\"relu\""));
    changed(
        "heads",
        "config.json",
        &config.replace("\"num_attention_heads\": 4", "\"num_attention_heads\": 5"),
    );
    changed("keyless", "config.json", &config.replace("hidden_size", "size"));
    changed(
        "none",
        "config.json",
        &config.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 0"),
    );
    changed("tokens", "tokenizer.json", "{}");
    changed(
        "vocabulary",
        "config.json",
        &config.replace("\"vocab_size\": 20", "\"vocab_size\": 19"),
    );
    changed("cls", "1_Pooling/config.json", "{\"pooling_mode_mean_tokens\": false}");
    changed("truncated", "model.safetensors", "{");
    fs::create_dir(b.path("empty")).unwrap();
    let cases = [
        ("gone", "--model", "no such file"),
        ("empty", "--model", "config.json (no such file)"),
        ("missing", &format!("--model, tensor {query}"), "none of that name"),
        ("shape", &format!("--model, tensor {query}"), "shape [31, 32]"),
        ("nan", "--model, tensor embeddings.LayerNorm.bias", "NaN at 3"),
        ("roberta", "--model, model_type of config.json", "roberta"),
        ("relu", "--model, hidden_act of config.json", "relu"),
        ("heads", "--model, num_attention_heads of config.json", "5"),
        ("none", "--model, num_hidden_layers of config.json", "0"),
        ("keyless", "--model", "missing field `hidden_size`"),
        ("tokens", "--model", "tokenizer.json"),
        (
            "vocabulary",
            "--model, tensor embeddings.word_embeddings.weight",
            "shape [20, 32]",
        ),
        ("cls", "--model", "1_Pooling/config.json"),
        ("truncated", "--model", "no header"),
    ];
    for (directory, argument, found) in cases {
        b.refused(&format!("embed --model {directory} cat"), argument, found);
    }
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        changed("less", "spare", "");
        fs::remove_file(b.path("less").join(file)).unwrap();
        b.refused("embed --model less cat", "--model", file);
    }
}

#[test]
fn texts_and_options_that_do_not_fit_are_refused() {
    let b = Bench::new();
    fs::write(b.path("blank.txt"), "\n  \n").unwrap();
    fs::write(b.path("texts.txt"), "the cat\n\n the dog \n").unwrap();
    fs::write(b.path("long.txt"), format!("cat\n{}", "on ".repeat(23))).unwrap();
    let model = format!("embed --model {TINY}");
    let fixed = format!("{model} cat --mode a8static");
    let cases = [
        (model.clone(), "<TEXT>...", "none"),
        ("embed cat".into(), "--model <DIR>", "none"),
        (format!("{model} @gone.txt"), "TEXT", "gone.txt (no such file)"),
        (format!("{model} @blank.txt"), "TEXT", "blank.txt (blank)"),
        (format!("{model} @long.txt"), "TEXT", "25 in `on on"),
        (format!("{model} cat --bits 9"), "--bits", "9"),
        (format!("{model} cat --group 0"), "--group", "0"),
        (format!("{model} cat --mode a8given"), "--mode", "a8given"),
        (format!("{model} cat --mode native"), "--mode", "native"),
        (format!("{model} cat --fast"), "--fast", "host"),
        (format!("{model} cat --backend mixpe --isa avx2"), "--isa", "avx2"),
        (format!("{model} cat --mode a16 --split shadow"), "--split", "a16"),
        (format!("{model} cat --mode a8 --split mixed --hot 3"), "--hot", "a8"),
        (format!("{model} cat --force"), "--save-activations <FILE>", "none"),
        (
            format!("{model} cat --save-activations gone/a"),
            "--save-activations",
            "no such directory",
        ),
        (format!("{model} cat --calibrate-on dog"), "--calibrate-on", "a8"),
        (fixed.clone(), "--calibrate-on", "none"),
        (format!("{fixed} --calibrate-on cat"), "--calibrate-on", "`cat` in both"),
        (
            format!("{fixed} --calibrate-on @gone"),
            "--calibrate-on",
            "gone (no such file)",
        ),
        (
            format!("{fixed} --calibrate-on dog --scale channels:99"),
            "share of channels of encoder.layer.0.attention.self.query",
            "0.99",
        ),
        (
            format!("{fixed} --calibrate-on dog --scale percentile:101"),
            "--scale",
            "percentile:101",
        ),
        (format!("{fixed} --calibrate-on dog --scale least"), "--scale", "least"),
    ];
    for (line, argument, found) in cases {
        b.refused(&line, argument, found);
    }
    for text in ["", " \t", "\u{200b}"] {
        let out = b.command(&model).arg(text).output().unwrap();
        let line = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2), "{line}");
        assert!(
            line.starts_with("error: TEXT: expected a text with words, found `"),
            "{line}"
        );
    }
    let out = b.run(&format!("{model} @texts.txt a.cat --json"));
    let found: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        texts(found["found"]["texts"].as_array().unwrap()),
        ["the cat", " the dog ", "a.cat"]
    );
}
