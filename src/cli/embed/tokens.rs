//! Texts and their tokens.
#![forbid(unsafe_code)]

use super::config::Config;
use crate::cli::refusal::{refusal, unreadable};
use anyhow::Result;
use std::fs;
use std::path::Path;
use tokenizers::Tokenizer;

/// A text as the model reads it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Text {
    /// The text.
    pub(super) text: String,
    /// Rows of the word embeddings, with the tokens at both ends that the tokenizer adds.
    pub(super) ids: Vec<u32>,
    /// Rows of the segment embeddings.
    pub(super) types: Vec<u32>,
}

/// The file whose lines an argument stands for.
pub(super) fn file(text: &str) -> Option<&str> {
    text.strip_prefix('@').filter(|file| !file.starts_with('@'))
}

/// The texts that an argument stands for: itself, or with `@FILE` the lines of a file that are not blank. `@@TEXT` is a text
/// that begins with `@`.
pub(super) fn lines(argument: &str, given: &[String]) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for text in given {
        let Some(file) = file(text) else {
            texts.push(text.strip_prefix('@').unwrap_or(text).into());
            continue;
        };
        let path = Path::new(file);
        let content = fs::read_to_string(path).map_err(|e| unreadable(argument, "a readable text file", path, &e))?;
        let before = texts.len();
        texts.extend(content.lines().filter(|line| !line.trim().is_empty()).map(String::from));
        if texts.len() == before {
            return Err(refusal(
                argument,
                "a file with a line of text",
                format_args!("{file} (blank)"),
            ));
        }
    }
    Ok(texts)
}

/// The tokenizer of a model.
pub(super) struct Words {
    tokenizer: Tokenizer,
    positions: usize,
    vocabulary: usize,
    types: usize,
}

impl Words {
    /// Reads `tokenizer.json`. Texts are neither padded nor cut, whatever it says about that.
    pub(super) fn read(directory: &Path, config: &Config) -> Result<Self> {
        let path = directory.join("tokenizer.json");
        let expected = "a directory with a tokenizer.json";
        let bytes = fs::read(&path).map_err(|error| unreadable("--model", expected, &path, &error))?;
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| {
            refusal(
                "--model",
                "a tokenizer of the `tokenizers` library",
                format_args!("tokenizer.json ({error})"),
            )
        })?;
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|error| refusal("--model", "a tokenizer that leaves texts whole", error))?;
        Ok(Self {
            tokenizer,
            positions: config.positions,
            vocabulary: config.vocabulary,
            types: config.types,
        })
    }

    /// The tokens of a text. `argument` names it in errors.
    pub(super) fn text(&self, argument: &str, text: &str) -> Result<Text> {
        let shown = || format!("`{}`", shortened(text, 40));
        let encoding = self.tokenizer.encode(text, true).map_err(|error| {
            refusal(
                argument,
                "a text that tokenizer.json takes apart",
                format_args!("{} ({error})", shown()),
            )
        })?;
        if encoding.get_special_tokens_mask().iter().all(|&special| special == 1) {
            return Err(refusal(argument, "a text with words", shown()));
        }
        let (ids, types) = (encoding.get_ids(), encoding.get_type_ids());
        if ids.len() > self.positions {
            let expected = format!("at most {} tokens, the model's max_position_embeddings", self.positions);
            return Err(refusal(
                argument,
                expected,
                format_args!("{} in {}", ids.len(), shown()),
            ));
        }
        for (what, rows, found) in [
            ("vocab_size", self.vocabulary, ids),
            ("type_vocab_size", self.types, types),
        ] {
            if let Some(id) = found.iter().find(|&&id| id as usize >= rows) {
                let expected = format!("a tokenizer.json with ids below {what} = {rows}");
                return Err(refusal("--model", expected, format_args!("{id} in {}", shown())));
            }
        }
        Ok(Text {
            text: text.into(),
            ids: ids.into(),
            types: types.into(),
        })
    }
}

/// The beginning of a text, at most so many characters.
pub(super) fn shortened(text: &str, most: usize) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.char_indices().nth(most) {
        None => line,
        Some(_) => line.chars().take(most - 1).chain(['…']).collect(),
    }
}
