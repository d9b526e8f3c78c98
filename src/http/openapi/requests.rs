//! Request bodies, generated from the types that read them, so that exactly the accepted fields are documented.

use std::borrow::Cow;

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ContentBuilder, KnownFormat, Object, ObjectBuilder, Ref, RefOr, Required, Schema, SchemaFormat, Type,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::{AdditionalProperties, OneOfBuilder, SchemaType},
    },
};

use super::super::{
    body::{Audio, SOURCES, Speech},
    render::RenderFields,
    voice::VoiceFields,
};
use crate::view::schema::DeclaredFormatText;

/// The audio itself, as the whole body.
pub struct Bytes;

/// `POST /voice` in JSON.
pub struct VoiceRequestBody;

/// `POST /voice` as a form.
pub struct VoiceForm;

/// `POST /render` in JSON.
pub struct RenderRequestBody;

/// `POST /render` as a form.
pub struct RenderForm;

/// `POST /media` in JSON.
pub struct UploadRequest;

/// `POST /media` as a form.
pub struct UploadForm;

/// Audio in JSON, in exactly one of four forms.
struct AudioSource;

/// Audio in JSON without `media_id`, since uploads exist already, and without `speech`, which is made for a note.
struct NewAudioSource;

impl PartialSchema for Bytes {
    fn schema() -> RefOr<Schema> {
        binary("The audio itself.").into()
    }
}

impl ToSchema for Bytes {}

impl PartialSchema for VoiceRequestBody {
    fn schema() -> RefOr<Schema> {
        let mut fields = object::<VoiceFields>();
        fields.description = Some("A voice note to send.".to_owned());
        add(&mut fields, "audio", Ref::from_schema_name("AudioSource"), true);
        fields.into()
    }
}

impl ToSchema for VoiceRequestBody {
    fn name() -> Cow<'static, str> {
        "VoiceRequest".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        VoiceFields::schemas(schemas);
        schemas.push(("AudioSource".to_owned(), AudioSource::schema()));
        place_schemas(schemas);
    }
}

impl PartialSchema for VoiceForm {
    fn schema() -> RefOr<Schema> {
        let mut fields = object::<VoiceFields>();
        fields.description =
            Some("A voice note to send, with its audio as a file or as a text to be spoken.".to_owned());
        with_file_or_speech(fields).into()
    }
}

impl ToSchema for VoiceForm {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        VoiceFields::schemas(schemas);
        hints_schemas(schemas);
        schemas.push(("Speech".to_owned(), Speech::schema()));
    }
}

impl PartialSchema for RenderRequestBody {
    fn schema() -> RefOr<Schema> {
        let mut fields = object::<RenderFields>();
        fields.description = Some("Audio to render.".to_owned());
        add(&mut fields, "audio", Ref::from_schema_name("AudioSource"), true);
        fields.into()
    }
}

impl ToSchema for RenderRequestBody {
    fn name() -> Cow<'static, str> {
        "RenderRequest".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        RenderFields::schemas(schemas);
        schemas.push(("AudioSource".to_owned(), AudioSource::schema()));
        place_schemas(schemas);
    }
}

impl PartialSchema for RenderForm {
    fn schema() -> RefOr<Schema> {
        let mut fields = object::<RenderFields>();
        fields.description = Some("Audio to render, as a file or as a text to be spoken.".to_owned());
        with_file_or_speech(fields).into()
    }
}

impl ToSchema for RenderForm {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        RenderFields::schemas(schemas);
        hints_schemas(schemas);
        schemas.push(("Speech".to_owned(), Speech::schema()));
    }
}

impl PartialSchema for UploadRequest {
    fn schema() -> RefOr<Schema> {
        let mut fields = empty();
        fields.description = Some("Audio to keep.".to_owned());
        add(&mut fields, "audio", Ref::from_schema_name("NewAudioSource"), true);
        fields.into()
    }
}

impl ToSchema for UploadRequest {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push(("NewAudioSource".to_owned(), NewAudioSource::schema()));
        place_schemas(schemas);
    }
}

impl PartialSchema for UploadForm {
    fn schema() -> RefOr<Schema> {
        let mut fields = empty();
        fields.description = Some("Audio to keep, as a file.".to_owned());
        with_file(fields).into()
    }
}

impl ToSchema for UploadForm {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        hints_schemas(schemas);
    }
}

/// The name and the description of each source in [`SOURCES`]. A `null` in the fields of the other sources is accepted, but
/// not documented.
const PLACES: [(&str, &str); 4] = [
    ("AudioByUrl", "Audio to download."),
    ("AudioInside", "Audio inside the request."),
    ("AudioUploaded", "Audio that was uploaded before."),
    ("AudioSpoken", "A text that a server speaks."),
];

/// One form as a schema of its own, in which its field is required and not `null`.
fn place(field: &str, others: &[&str], description: &str) -> Object {
    let mut place = object::<Audio>();
    place.description = Some(description.to_owned());
    place.properties.retain(|name, _| name == field || others.contains(&name.as_str()));
    if let Some(schema) = place.properties.get_mut(field) {
        without_null(schema);
    }
    place.required = vec![field.to_owned()];
    place
}

fn one_of(places: &[(&str, &str)], description: &str) -> RefOr<Schema> {
    let all =
        places.iter().fold(OneOfBuilder::new(), |all, (name, ..)| all.item(Ref::from_schema_name(*name)));
    all.description(Some(description)).into()
}

fn place_schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
    for ((name, description), (field, others)) in PLACES.into_iter().zip(SOURCES) {
        schemas.push((name.to_owned(), place(field, others, description).into()));
    }
    Audio::schemas(schemas);
}

impl PartialSchema for AudioSource {
    fn schema() -> RefOr<Schema> {
        one_of(&PLACES, "The audio in one of four forms, and facts about it.")
    }
}

impl PartialSchema for NewAudioSource {
    fn schema() -> RefOr<Schema> {
        one_of(&PLACES[..2], "The audio in one of two forms, and facts about it.")
    }
}

fn binary(description: &str) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary)))
        .description(Some(description))
        .build()
}

fn empty() -> Object {
    let nothing_else = AdditionalProperties::FreeForm(false);
    ObjectBuilder::new().schema_type(Type::Object).additional_properties(Some(nothing_else)).build()
}

/// The schema of a struct with named fields.
pub fn object<T: PartialSchema>() -> Object {
    match T::schema() {
        RefOr::T(Schema::Object(object)) => object,
        _ => Object::new(),
    }
}

fn add(object: &mut Object, name: &str, schema: impl Into<RefOr<Schema>>, required: bool) {
    object.properties.insert(name.to_owned(), schema.into());
    if required {
        object.required.push(name.to_owned());
    }
}

/// The schema of a form: the same fields as text, the audio as a file, and the fields about it beside it.
fn with_file(mut fields: Object) -> Object {
    for schema in fields.properties.values_mut() {
        without_null(schema);
    }
    add(&mut fields, "audio", binary("The audio. Its file name and type are hints, too."), true);
    for (name, mut schema) in object::<Audio>().properties {
        if matches!(name.as_str(), "filename" | "mime_type") {
            without_null(&mut schema);
            add(&mut fields, &name, schema, false);
        }
    }
    add(&mut fields, "format", Ref::from_schema_name("DeclaredFormatText"), false);
    fields
}

/// A form with either of two fields. No schema says so, since clients and their generators read alternatives of whole forms
/// badly.
fn with_file_or_speech(fields: Object) -> Object {
    let mut fields = with_file(fields);
    fields.required.retain(|name| name != "audio");
    let either = " Exactly one of `audio` and `speech` is given; `filename`, `mime_type` and `format` are about a file.";
    add(
        &mut fields,
        "audio",
        binary(&format!("The audio. Its file name and type are hints, too.{either}")),
        false,
    );
    add(&mut fields, "speech", Ref::from_schema_name("Speech"), false);
    fields
}

fn hints_schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
    schemas.push(("DeclaredFormatText".to_owned(), DeclaredFormatText::schema()));
    DeclaredFormatText::schemas(schemas);
}

/// Text values cannot be `null`.
pub fn without_null(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            if let SchemaType::Array(types) = &mut object.schema_type {
                types.retain(|kind| *kind != Type::Null);
                if let [only] = types.as_slice() {
                    object.schema_type = SchemaType::Type(only.clone());
                }
            }
        }
        RefOr::T(Schema::OneOf(one_of)) => {
            let (mut kept, description) = (one_of.items.clone(), one_of.description.take());
            kept.retain(|item| {
                !matches!(item, RefOr::T(Schema::Object(object)) if object.schema_type == SchemaType::Type(Type::Null))
            });
            if let [RefOr::Ref(only)] = kept.as_slice() {
                let mut only = only.clone();
                only.description = description.unwrap_or_default();
                *schema = RefOr::Ref(only);
            }
        }
        _ => {}
    }
}

/// The fields of a form as query parameters, for a body that is the audio itself.
pub fn query<T: PartialSchema>() -> Vec<Parameter> {
    let form = object::<T>();
    let fields = form.properties.into_iter().filter(|(name, _)| name != "audio" && name != "speech");
    fields.map(|(name, schema)| parameter(&name, schema)).collect()
}

fn parameter(name: &str, schema: RefOr<Schema>) -> Parameter {
    let described = match &schema {
        RefOr::T(Schema::Object(object)) => object.description.clone(),
        RefOr::Ref(reference) => Some(reference.description.clone()).filter(|text| !text.is_empty()),
        RefOr::T(_) => None,
    };
    let only = if name == "to" {
        "Required if the body is the audio itself"
    } else {
        "Only if the body is the audio itself"
    };
    let description = match described {
        Some(text) => format!("{only}; refused with any other body. {text}"),
        None => format!("{only}; refused with any other body. The same as the field `{name}` of a form."),
    };
    let builder = ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(description));
    let is_object = matches!(&schema, RefOr::T(Schema::Object(object)) if object.schema_type == SchemaType::Type(Type::Object));
    let parameter = if is_object {
        builder.content("application/json", ContentBuilder::new().schema(Some(schema)).build())
    } else {
        builder.schema(Some(schema))
    };
    parameter.build()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;

    /// The names that serde lists when it refuses an unknown one.
    fn accepted<T: DeserializeOwned>() -> BTreeSet<String> {
        let refusal = serde_json::from_value::<T>(json!({ "no such field": 0 })).err().expect("a refusal");
        let refusal = refusal.to_string();
        let (_, names) = refusal.split_once(", expected").expect("a list of names");
        names.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect()
    }

    fn documented<T: PartialSchema>() -> BTreeSet<String> {
        let schema = serde_json::to_value(T::schema()).expect("JSON");
        names(&schema["properties"])
    }

    fn names(properties: &Value) -> BTreeSet<String> {
        properties.as_object().expect("properties").keys().cloned().collect()
    }

    fn with<const N: usize>(mut names: BTreeSet<String>, more: [&str; N]) -> BTreeSet<String> {
        names.extend(more.map(ToOwned::to_owned));
        names
    }

    #[test]
    fn what_is_documented_is_what_is_accepted() {
        let fields = accepted::<VoiceFields>();
        assert_eq!(fields.len(), 11, "{fields:?}");
        assert_eq!(documented::<VoiceRequestBody>(), with(fields.clone(), ["audio"]));
        assert_eq!(
            documented::<VoiceForm>(),
            with(fields, ["audio", "speech", "filename", "mime_type", "format"])
        );
        let fields = accepted::<RenderFields>();
        assert_eq!(with(fields.clone(), ["to"]), accepted::<VoiceFields>());
        assert_eq!(documented::<RenderRequestBody>(), with(fields.clone(), ["audio"]));
        assert_eq!(
            documented::<RenderForm>(),
            with(fields, ["audio", "speech", "filename", "mime_type", "format"])
        );
        let places =
            SOURCES.map(|(field, others)| serde_json::to_value(place(field, others, "")).expect("JSON"));
        let fields: BTreeSet<String> = places.iter().flat_map(|place| names(&place["properties"])).collect();
        assert_eq!(fields, accepted::<Audio>());
        assert_eq!(documented::<UploadRequest>(), with(BTreeSet::new(), ["audio"]));
        assert_eq!(
            documented::<UploadForm>(),
            with(BTreeSet::new(), ["audio", "filename", "mime_type", "format"])
        );
    }
}
