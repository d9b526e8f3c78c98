//! Schemas that are not derived from a type: words that another crate defines, and values with two notations.

use serde::Serialize;
use serde_json::Value;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ArrayBuilder, KnownFormat, Object, ObjectBuilder, Ref, RefOr, Schema, SchemaFormat, Type,
        schema::AnyOfBuilder,
    },
};
use voicegate_providers as providers;

use super::{AudioFacts, SentAudio, received::ReceivedFile};
use crate::model::note::ConvertChoice;
use voicegate_audio::{PcmFormat, Work, presets};

/// A closed list of words, as serde writes them.
macro_rules! words {
    ($($(#[doc = $doc:literal])+ $name:ident = $values:expr;)*) => {$(
        $(#[doc = $doc])+
        pub struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let doc = [$($doc),+].map(str::trim).join(" ");
                one_of_words($values, &doc).into()
            }
        }

        impl ToSchema for $name {}
    )*};
}

words! {
    /// The container of the audio, as found in the bytes. `pcm` is headerless samples.
    Container = {
        use providers::Container::*;
        [Mp3, Mp4, Adts, Ogg, Webm, Matroska, Wav, Aiff, Caf, Flac, Amr, Pcm]
    };
    /// The form in which the recipient sees a note: a voice bubble, a playable audio attachment, a file to download, or text.
    Form = [providers::Form::Voice, providers::Form::Audio, providers::Form::File, providers::Form::Text];
    /// A form that may replace a voice bubble: a playable audio attachment, a file to download, or the note's text.
    Substitute = [providers::Form::Audio, providers::Form::File, providers::Form::Text];
    /// The way in which the audio reaches the provider: the gateway uploads it, or the provider downloads it from a signed link.
    Intake = [providers::Intake::Upload, providers::Intake::Url];
    /// Whether a note can answer an earlier message: not at all, or by the message's id.
    ReplySupport = [providers::ReplySupport::None, providers::ReplySupport::MessageId];
    /// Yes or no, in a query.
    YesOrNo = ["0", "1", "false", "true"];
    /// The raw format of a text-to-speech service, by name.
    PcmPreset = presets().map(|preset| preset.name);
}

fn one_of_words<T: Serialize>(words: impl IntoIterator<Item = T>, doc: &str) -> Object {
    let words = words.into_iter().map(|word| serde_json::to_value(word).unwrap_or_default());
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(doc))
        .enum_values(Some(words.collect::<Vec<Value>>()))
        .build()
}

/// Loudness from 0 to 100 in 64 steps.
pub struct Waveform;

impl PartialSchema for Waveform {
    fn schema() -> RefOr<Schema> {
        let step = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).maximum(Some(100));
        ArrayBuilder::new()
            .items(step)
            .min_items(Some(64))
            .max_items(Some(64))
            .description(Some("Loudness from 0 to 100 in 64 steps, for the bars of a voice bubble."))
            .into()
    }
}

impl ToSchema for Waveform {}

/// One schema with all fields instead of a composition, which client generators handle less well.
impl PartialSchema for ReceivedFile {
    fn schema() -> RefOr<Schema> {
        let RefOr::T(Schema::Object(mut all)) = AudioFacts::schema() else { return AudioFacts::schema() };
        let url = ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::Custom("uri-reference".to_owned())))
            .description(Some("A path of this API, for which the key is needed."))
            .examples(["/received/in_01985c3a-7c1e-7d52-9a3b-5f0e6c2d8b41/audio?as=native"]);
        all.description = Some("Facts about a piece of audio, and its address.".to_owned());
        all.properties.insert("url".to_owned(), url.into());
        all.required.push("url".to_owned());
        all.into()
    }
}

impl ToSchema for ReceivedFile {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        AudioFacts::schemas(schemas);
    }
}

impl PartialSchema for SentAudio {
    fn schema() -> RefOr<Schema> {
        let RefOr::T(Schema::Object(mut all)) = AudioFacts::schema() else { return AudioFacts::schema() };
        let profile = ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("The recipe by which it was made or judged."))
            .examples(["linq-1"]);
        all.description = Some("Audio as it goes to the provider.".to_owned());
        all.properties.insert("profile".to_owned(), profile.into());
        all.properties.insert("work".to_owned(), Ref::from_schema_name("Work").into());
        let checks = ArrayBuilder::new()
            .items(Object::with_type(Type::String))
            .description(Some(
                "The checks that the audio passed before it was sent; none if it is the source itself.",
            ))
            .examples([serde_json::json!(["ogg_pages", "opus_headers", "duration"])]);
        all.properties.insert("checks".to_owned(), checks.into());
        all.required.extend(["profile", "work", "checks"].map(str::to_owned));
        all.into()
    }
}

impl ToSchema for SentAudio {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push(("Work".to_owned(), Work::schema()));
    }
}

/// `convert`: a word, or a boolean.
pub struct ConvertWish;

impl PartialSchema for ConvertWish {
    fn schema() -> RefOr<Schema> {
        AnyOfBuilder::new()
            .item(Ref::from_schema_name("Convert"))
            .item(ObjectBuilder::new().schema_type(Type::Boolean).description(Some("`auto` or `never`.")))
            .description(Some(
                "The conversion of the audio that is allowed. `auto`: the least that makes it fit, which is often nothing. `always`: \
                 encode it anew. `never`: touch no sound; refused with `convert_refused` where that is not enough. \
                 `provider`: let the provider convert, where it can. Without it: what the connection's configuration \
                 says, else `auto`.",
            ))
            .into()
    }
}

impl ToSchema for ConvertWish {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push(("Convert".to_owned(), ConvertChoice::schema()));
    }
}

/// Audio inside JSON.
pub struct AudioData;

impl PartialSchema for AudioData {
    fn schema() -> RefOr<Schema> {
        let base64 = ObjectBuilder::new()
            .schema_type(Type::String)
            .title(Some("Base64"))
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Byte)))
            .content_encoding("base64")
            .examples(["SUQzBAAAAAAA"]);
        let uri = ObjectBuilder::new()
            .schema_type(Type::String)
            .title(Some("Data URI"))
            .format(Some(SchemaFormat::Custom("data-uri".to_owned())))
            .pattern(Some(r"^\s*[Dd][Aa][Tt][Aa]:[^,]*;[Bb][Aa][Ss][Ee]64,"))
            .examples(["data:audio/mpeg;base64,SUQzBAAAAAAA"]);
        AnyOfBuilder::new()
            .item(base64)
            .item(uri)
            .description(Some(
                "The audio itself, in base64 with either alphabet. Wrapped lines and missing padding are fine.",
            ))
            .into()
    }
}

impl ToSchema for AudioData {}

/// `format` in JSON: an object, or the name of a preset.
pub struct DeclaredFormat;

impl PartialSchema for DeclaredFormat {
    fn schema() -> RefOr<Schema> {
        AnyOfBuilder::new()
            .item(Ref::from_schema_name("PcmPreset"))
            .item(Ref::from_schema_name("PcmFormat"))
            .description(Some("The format of headerless samples; needed for nothing else."))
            .into()
    }
}

impl ToSchema for DeclaredFormat {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push(("PcmPreset".to_owned(), PcmPreset::schema()));
        schemas.push(("PcmFormat".to_owned(), PcmFormat::schema()));
        PcmFormat::schemas(schemas);
    }
}

/// `format` in forms and queries, where an object is JSON as text.
pub struct DeclaredFormatText;

impl PartialSchema for DeclaredFormatText {
    fn schema() -> RefOr<Schema> {
        let mut object = ObjectBuilder::new()
            .schema_type(Type::String)
            .title(Some("JSON as text"))
            .format(Some(SchemaFormat::Custom("pcm-format".to_owned())))
            .content_media_type("application/json")
            .examples([r#"{"encoding":"s16le","sample_rate":24000,"channels":1}"#])
            .build();
        object.content_schema = Some(Box::new(Ref::from_schema_name("PcmFormat").into()));
        AnyOfBuilder::new()
            .item(Ref::from_schema_name("PcmPreset"))
            .item(object)
            .description(Some("The format of headerless samples; needed for nothing else."))
            .into()
    }
}

impl ToSchema for DeclaredFormatText {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        DeclaredFormat::schemas(schemas);
    }
}
