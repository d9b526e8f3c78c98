//! `multipart/form-data`: the file part `audio` or the field `speech`, and every other field as text.

use std::sync::Arc;

use multer::{Field, Multipart};

use super::{
    MAX_FIELDS, Parts,
    fields::{TextFields, too_many},
    incoming::{Incoming, broken_off, push},
    pieces::{MAX_HEADERS, Pieces, Progress, headers_too_long},
};
use crate::{
    http::memory::Holding,
    media::{MediaStore, Spool, SpooledAudio},
    model::problem::Problem,
};

pub async fn read(
    body: Incoming,
    content_type: &str,
    media: &MediaStore,
    max_bytes: u64,
    held: Holding,
) -> Result<Parts, Problem> {
    let mut fields = TextFields::new(held.another());
    let mut file = None;
    let (mut parts, progress) = open(body, content_type, held.another())?;
    let mut is_first = true;
    while let Some(part) = next(&mut parts, std::mem::take(&mut is_first)).await? {
        progress.made();
        let name = name(&part)?;
        if name == "audio" {
            if file.is_some() {
                return Err(Problem::invalid("audio", "the field is given twice"));
            }
            if let Some(filename) = part.file_name() {
                fields.hint("filename", filename);
            }
            if let Some(mime_type) = part.content_type() {
                fields.hint("mime_type", mime_type.as_ref());
            }
            file = Some(audio(part, &progress, media, max_bytes).await?);
        } else {
            let text = text(part, &name, &progress, held.another()).await?;
            let text = String::from_utf8(text).map_err(|_| {
                Problem::invalid(&*name, "expected text; the part with the audio is named `audio`")
            })?;
            fields.add(&name, &text)?;
        }
    }
    Ok(fields.with(file))
}

/// Begins to read a form.
pub(super) fn open(
    body: Incoming,
    content_type: &str,
    held: Holding,
) -> Result<(Multipart<'static>, Arc<Progress>), Problem> {
    let boundary = multer::parse_boundary(content_type).ok().filter(|boundary| !boundary.is_empty());
    let boundary = boundary.ok_or_else(|| {
        let detail = "the boundary is missing; let the HTTP library write this header itself";
        Problem::invalid("Content-Type", detail)
    })?;
    let (pieces, progress) = Pieces::new(body, &boundary, held);
    Ok((Multipart::new(pieces, boundary), progress))
}

/// The next part. A body that ends before the first one has another boundary than the header says, or none.
async fn next(parts: &mut Multipart<'static>, is_first: bool) -> Result<Option<Field<'static>>, Problem> {
    parts.next_field().await.map_err(|error| match error {
        multer::Error::IncompleteStream if is_first => {
            let detail = "the body does not contain the boundary that this header names; let the HTTP library write both \
                          itself";
            Problem::invalid("Content-Type", detail)
        }
        error => unreadable(error),
    })
}

/// The name of a part, after the size of its headers was checked.
pub(super) fn name(part: &Field<'_>) -> Result<String, Problem> {
    if part.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>()
        > MAX_HEADERS
    {
        return Err(headers_too_long());
    }
    let name = part.name().map(ToOwned::to_owned);
    name.ok_or_else(|| Problem::invalid("body", "a part of the form has no name"))
}

pub(super) async fn audio(
    mut part: Field<'_>,
    progress: &Progress,
    media: &MediaStore,
    max_bytes: u64,
) -> Result<SpooledAudio, Problem> {
    let mut spool = Spool::new(media, max_bytes, None)?;
    while let Some(piece) = part.chunk().await.map_err(unreadable)? {
        progress.made();
        push(&mut spool, &piece, max_bytes).await?;
    }
    progress.made();
    Ok(spool.finish().await?)
}

pub(super) async fn text(
    mut part: Field<'_>,
    name: &str,
    progress: &Progress,
    mut held: Holding,
) -> Result<Vec<u8>, Problem> {
    let mut text = Vec::new();
    while let Some(piece) = part.chunk().await.map_err(unreadable)? {
        progress.made();
        if text.len() + piece.len() > MAX_FIELDS {
            return Err(too_many(name));
        }
        held.grow(piece.len())?;
        text.extend_from_slice(&piece);
    }
    progress.made();
    Ok(text)
}

pub(super) fn unreadable(error: multer::Error) -> Problem {
    match error {
        // This is our own error, which has passed through the parser.
        multer::Error::StreamReadFailed(inner) => {
            inner.downcast::<Problem>().map_or_else(|_| broken_off(), |problem| *problem)
        }
        multer::Error::IncompleteFieldData { .. }
        | multer::Error::IncompleteHeaders
        | multer::Error::IncompleteStream => broken_off(),
        _ => Problem::invalid("body", "this is not well-formed multipart/form-data"),
    }
}
