//! `taints`: taints of the Node object when it registers, `KEY=VALUE:EFFECT` as kubectl has them.

use std::fmt;

use super::label::{is_key, is_part};
use super::read::{Problems, Value};

/// The effects of a taint.
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// A taint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taint {
    /// The key, a qualified name.
    pub key: String,
    /// The value, which may be empty.
    pub value: String,
    /// The effect.
    pub effect: &'static str,
}

impl Taint {
    /// Parses `KEY:EFFECT` or `KEY=VALUE:EFFECT`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, effect) =
            text.rsplit_once(':').ok_or_else(|| format!("{text:?} has no effect"))?;
        let (key, value) = name.split_once('=').unwrap_or((name, ""));
        let Some(effect) = EFFECTS.into_iter().find(|known| *known == effect) else {
            return Err(format!("{text:?} has an unknown effect"));
        };
        if !is_key(key) || !(value.is_empty() || is_part(value)) {
            return Err(format!("{text:?} has an invalid key or value"));
        }
        Ok(Self { key: key.into(), value: value.into(), effect })
    }
}

impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, value, effect } = self;
        write!(f, "{key}={value}:{effect}")
    }
}

/// Reads `taints`.
pub fn read(value: &Value<'_>, problems: &mut Problems) -> Vec<Taint> {
    let mut taints: Vec<Taint> = Vec::new();
    let next = "write KEY=VALUE:EFFECT with NoSchedule, PreferNoSchedule or NoExecute";
    for taint in value.parsed(problems, next, Taint::parse) {
        // kubelet exits if two taints have the same key and effect.
        let twice = taints.iter().any(|one| (&one.key, one.effect) == (&taint.key, taint.effect));
        if twice {
            let cause = format!("a second taint {}:{}, ignored", taint.key, taint.effect);
            value.refuse(problems, cause, "keep one of them");
        } else {
            taints.push(taint);
        }
    }
    taints
}

#[cfg(test)]
mod tests {
    use super::Taint;

    #[test]
    fn taints_have_the_form_of_kubectl() {
        for (text, expected) in [
            ("dedicated=gpu:NoSchedule", "dedicated=gpu:NoSchedule"),
            ("example.com/a:NoExecute", "example.com/a=:NoExecute"),
        ] {
            assert_eq!(Taint::parse(text).unwrap().to_string(), expected);
        }
        for text in
            ["", "a", "a=b", "a=b:Never", ":NoExecute", "a=b c:NoExecute", "a=b=c:NoExecute"]
        {
            assert!(Taint::parse(text).is_err(), "{text}");
        }
    }
}
