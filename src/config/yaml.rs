//! YAML in and out: text to settings with their positions, and the resolved configuration to text.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Spanned, options::DuplicateKeyPolicy, options::NonFiniteFloatPolicy};

use super::error::{ConfigError, ConfigErrors, SourceLocation};
use super::key::KeySection;
use super::schema::{Config, KEYS};
use super::spec::{Data, SpecNode};
use super::value::Value;

/// A setting as written: its name, its value, where each stands.
#[derive(Clone)]
pub(super) struct Setting {
    pub name: String,
    pub name_at: SourceLocation,
    pub value: Value,
    pub value_at: SourceLocation,
}

/// The settings of a file, in order. An empty file has none.
pub(super) fn read_settings(name: &str, text: &str) -> Result<Vec<Setting>, ConfigErrors> {
    let at = |line, column| SourceLocation::File { name: name.into(), line, column };
    let document: Document =
        parse(text).map_err(|(line, column, message)| ConfigError::Syntax { place: at(line, column), message })?;
    let settings = document.0.into_iter().map(|(key, value)| Setting {
        name_at: at(key.referenced.line(), key.referenced.column()),
        value_at: at(value.referenced.line(), value.referenced.column()),
        name: key.value,
        value: value.value,
    });
    Ok(settings.collect())
}

/// The part called `section` of a file that could be read, with the place of everything in it.
pub(super) fn read_section(text: &str, section: &str) -> Option<SpecNode> {
    let root: SpecNode = parse(text).ok()?;
    let Data::Map(entries) = root.data else { return None };
    entries.into_iter().find(|(name, _)| name == section).map(|(_, node)| node)
}

/// The value of an override.
pub(super) fn read_value(text: &str) -> Result<Value, String> {
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    parse(text).map_err(|(_, _, message)| message)
}

/// Position 0:0 where the parser knows none.
fn parse<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, (u64, u64, String)> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        // Passed on so that the message can name both places.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
        let message = error.without_snippet().render();
        // The position is said once, in front.
        let message = message.lines().next().unwrap_or_default();
        let message = message.strip_prefix("error: ").unwrap_or(message);
        let message = message.strip_prefix(&format!("line {line} column {column}: ")).unwrap_or(message);
        let message = message.strip_suffix(&format!(" at line {line}, column {column}")).unwrap_or(message);
        (line, column, message.to_owned())
    })
}

/// A whole file: a mapping, or nothing.
struct Document(Vec<(Spanned<String>, Spanned<Value>)>);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Settings;

        impl<'de> Visitor<'de> for Settings {
            type Value = Document;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("lines `key: value`")
            }

            fn visit_unit<E>(self) -> Result<Document, E> {
                Ok(Document(Vec::new()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
                let mut settings = Vec::new();
                while let Some(setting) = map.next_entry()? {
                    settings.push(setting);
                }
                Ok(Document(settings))
            }
        }

        deserializer.deserialize_any(Settings)
    }
}

/// Where each key of a file stands, those in groups as `group.key`; nothing for a text that cannot be read.
pub(super) fn key_places(name: &str, text: &str) -> Vec<(String, SourceLocation)> {
    fn walk(file: &str, group: &str, keys: Keys, places: &mut Vec<(String, SourceLocation)>) {
        for (key, inside) in keys.0 {
            let at = key.referenced;
            let path = if group.is_empty() { key.value } else { format!("{group}.{}", key.value) };
            places
                .push((path.clone(), SourceLocation::File { name: file.into(), line: at.line(), column: at.column() }));
            walk(file, &path, inside, places);
        }
    }
    let mut places = vec![];
    if let Ok(keys) = parse(text) {
        walk(name, "", keys, &mut places);
    }
    places
}

/// The keys of a mapping, each with those of the mapping it stands for; none of any other value.
struct Keys(Vec<(Spanned<String>, Keys)>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Inside;

        impl<'de> Visitor<'de> for Inside {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Keys, E> {
                Ok(Keys(vec![]))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Keys, E> {
                Ok(Keys(vec![]))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Keys, E> {
                Ok(Keys(vec![]))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Keys, E> {
                Ok(Keys(vec![]))
            }

            fn visit_i128<E>(self, _: i128) -> Result<Keys, E> {
                Ok(Keys(vec![]))
            }

            fn visit_u128<E>(self, _: u128) -> Result<Keys, E> {
                Ok(Keys(vec![]))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Keys, E> {
                Ok(Keys(vec![]))
            }

            fn visit_str<E>(self, _: &str) -> Result<Keys, E> {
                Ok(Keys(vec![]))
            }

            fn visit_none<E>(self) -> Result<Keys, E> {
                Ok(Keys(vec![]))
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Keys, D::Error> {
                Keys::deserialize(deserializer)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Keys, A::Error> {
                while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(Keys(vec![]))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = vec![];
                while let Some(key) = map.next_entry()? {
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }

        deserializer.deserialize_any(Inside)
    }
}

/// Like a value, but each part inside keeps its place.
impl<'de> Deserialize<'de> for SpecNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<Inside>::deserialize(deserializer)?;
        Ok(SpecNode { line: referenced.line(), column: referenced.column(), data: value.0 })
    }
}

struct Inside(Data);

impl<'de> Deserialize<'de> for Inside {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Inside;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Inside, E> {
                Ok(Inside(Data::Scalar(Value::Null)))
            }

            fn visit_none<E>(self) -> Result<Inside, E> {
                Ok(Inside(Data::Scalar(Value::Null)))
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Inside, D::Error> {
                Inside::deserialize(deserializer)
            }

            fn visit_bool<E>(self, b: bool) -> Result<Inside, E> {
                Ok(Inside(Data::Scalar(Value::Bool(b))))
            }

            fn visit_i64<E>(self, i: i64) -> Result<Inside, E> {
                Ok(Inside(Data::Scalar(Value::Int(i.into()))))
            }

            fn visit_u64<E>(self, i: u64) -> Result<Inside, E> {
                Ok(Inside(Data::Scalar(Value::Int(i.into()))))
            }

            fn visit_f64<E>(self, x: f64) -> Result<Inside, E> {
                Ok(Inside(Data::Scalar(Value::Float(x))))
            }

            fn visit_str<E>(self, t: &str) -> Result<Inside, E> {
                Ok(Inside(Data::Scalar(Value::Text(t.into()))))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Inside, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Inside(Data::List(items)))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Inside, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Inside(Data::Map(entries)))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_none<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
                Value::deserialize(deserializer)
            }

            fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
                Ok(Value::Bool(b))
            }

            fn visit_i64<E>(self, i: i64) -> Result<Value, E> {
                Ok(Value::Int(i.into()))
            }

            fn visit_u64<E>(self, i: u64) -> Result<Value, E> {
                Ok(Value::Int(i.into()))
            }

            fn visit_i128<E>(self, i: i128) -> Result<Value, E> {
                Ok(Value::Int(i))
            }

            fn visit_u128<E>(self, i: u128) -> Result<Value, E> {
                Ok(i128::try_from(i).map_or(Value::Float(i as f64), Value::Int))
            }

            fn visit_f64<E>(self, x: f64) -> Result<Value, E> {
                Ok(Value::Float(x))
            }

            fn visit_str<E>(self, t: &str) -> Result<Value, E> {
                Ok(Value::Text(t.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Value::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Value::Map(entries))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

impl Config {
    /// The complete resolved configuration; `from_yaml` reads it back to an equal one.
    pub fn to_yaml(&self) -> String {
        let mut out = String::new();
        for section in KeySection::ALL {
            out += &format!("{}# {}\n", if out.is_empty() { "" } else { "\n" }, section.title());
            for key in KEYS.iter().filter(|key| key.section == section) {
                out += &format!("{}: {}\n", key.name, self.get(key.name).expect("a key of the table is a field"));
            }
        }
        out
    }

    /// The complete resolved configuration as one JSON object, keys in the order of the table.
    pub fn to_json(&self) -> serde_json::Value {
        let pairs = KEYS.iter().map(|key| (key.name.to_owned(), json(&self.get(key.name).expect("a key is a field"))));
        serde_json::Value::Object(pairs.collect())
    }
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Map(entries) => entries.iter().map(|(name, value)| (name.clone(), json(value))).collect(),
        Value::Bool(b) => (*b).into(),
        // No key holds a number outside u64 and i64.
        Value::Int(i) => {
            u64::try_from(*i).map(Into::into).or_else(|_| i64::try_from(*i).map(Into::into)).unwrap_or_default()
        }
        Value::Float(x) => (*x).into(),
        Value::Text(t) => t.as_str().into(),
        Value::List(items) => items.iter().map(json).collect(),
    }
}
