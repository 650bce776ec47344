//! `import`: a tar archive of a file system becomes an image of one layer.

use super::lookup::local_reference;
use super::store_end::{describe_skipped, image_record};
use super::transfer::platform;
use super::{Images, ImportRequest, TransferEvent, TransferProgress};
use crate::events::Event;
use crate::time::Instant;
use crate::{Error, Result};
use oci::{ContainerConfig, Descriptor, History, ImageConfig, Raw, media_type};
use registry::trust::{Gate, Origin};
use std::io::{BufReader, Read};
use storage::TagRecord;
use storage::compress::{Format, decoder};
use storage::ingest::{LayerReader, LayerSource, commit_chain, ingest_layer};

impl Images<'_> {
    /// Makes an image of one layer from a tar archive, which may be compressed. Returns the image ID, 64 hex digits.
    pub fn import(
        &self,
        request: &ImportRequest,
        mut input: Box<dyn Read + Send>,
        progress: TransferProgress<'_>,
    ) -> Result<String> {
        let platform = platform(request.platform.as_deref())?;
        Gate::new(self.engine.policy(request.signature_policy.as_deref())?)
            .unsigned_may_be_used(&Origin::unscoped("tarball"), "the archive")
            .map_err(crate::error::registry("import"))?;
        let reference = request.reference.as_deref().map(local_reference).transpose()?;
        let mut config = ContainerConfig::default();
        for change in &request.changes {
            apply_change(&mut config, change)?;
        }
        let store = self.engine.store()?;
        let lease = store.lease("import").map_err(crate::error::storage("begin to import"))?;

        // what no layer can be compressed with is unpacked on the way
        let mut magic = Vec::new();
        (&mut input)
            .take(6)
            .read_to_end(&mut magic)
            .map_err(|error| Error::os("read the archive to import", error))?;
        let foreign = matches!(Format::detect(&magic), Format::Bzip2 | Format::Xz);
        let whole = std::io::Cursor::new(magic).chain(input);
        let reader: Box<dyn Read + Send> = if foreign {
            decoder(BufReader::new(whole)).map_err(|error| Error::os("read the archive to import", error))?.1
        } else {
            Box::new(whole)
        };
        let advanced = |done: u64| progress(TransferEvent::Advanced { digest: String::new(), done });
        let source = LayerSource {
            descriptor: None,
            diff_id: None,
            open: Box::new(|_| Ok(LayerReader { offset: 0, reader })),
            progress: &advanced,
        };
        let layer = ingest_layer(store, &lease, source)
            .map_err(crate::error::storage("unpack the archive to import"))?;
        if let Some(text) = describe_skipped(&layer.skipped) {
            progress(TransferEvent::Warning { text });
        }
        let diff_id = layer.diff_id.clone();
        let chain = commit_chain(store, &lease, None, vec![layer])
            .map_err(crate::error::storage("keep the layer to import"))?;

        let now = Instant::now().rfc3339();
        let mut image = ImageConfig::new(&platform);
        image.created = Some(now.clone());
        image.config = config;
        image.rootfs.diff_ids = vec![diff_id];
        image.history = vec![History {
            created: Some(now.clone()),
            created_by: Some("davit import".to_owned()),
            comment: request.message.clone().or_else(|| Some("imported from a tar archive".to_owned())),
            ..History::default()
        }];
        let raw = Raw::from_value(image).map_err(crate::error::document("write the config"))?;
        let failed = || crate::error::storage("record the imported image");
        store.content().put(&lease, raw.bytes()).map_err(failed())?;
        let descriptor = Descriptor::new(media_type::OCI_CONFIG, raw.digest().clone(), raw.size());
        let record = image_record(store, &raw, descriptor, chain, None).map_err(failed())?;
        store.images().put(&lease, &record).map_err(failed())?;
        if let Some(reference) = &reference {
            store
                .images()
                .tag(&TagRecord {
                    reference: reference.to_string(),
                    image: record.id.clone(),
                    manifest: None,
                    index: None,
                    form: None,
                    updated: now,
                })
                .map_err(failed())?;
        }
        let name = reference.map(|reference| reference.to_string()).unwrap_or_default();
        self.engine.tell(Event::image("import", record.id.hex(), &name));
        Ok(record.id.hex().to_owned())
    }
}

/// Applies one `--change` instruction.
pub(crate) fn apply_change(config: &mut ContainerConfig, text: &str) -> Result<()> {
    let bad = |reason: &str| Error::invalid(format!("change {text}"), reason);
    let (keyword, rest) = match text.trim().split_once(|letter: char| letter.is_whitespace() || letter == '=')
    {
        Some((keyword, rest)) => (keyword.to_ascii_uppercase(), rest.trim()),
        None => return Err(bad("expected an instruction and its value")),
    };
    let command = |rest: &str| -> Vec<String> {
        if rest.starts_with('[')
            && let Ok(words) = serde_json::from_str(rest)
        {
            return words;
        }
        vec!["/bin/sh".to_owned(), "-c".to_owned(), rest.to_owned()]
    };
    match keyword.as_str() {
        "CMD" => config.cmd = Some(command(rest)),
        "ENTRYPOINT" => config.entrypoint = Some(command(rest)),
        "USER" => rest.clone_into(&mut config.user),
        "WORKDIR" => rest.clone_into(&mut config.working_dir),
        "STOPSIGNAL" => config.stop_signal = Some(rest.to_owned()),
        "ONBUILD" => config.on_build.push(rest.to_owned()),
        "EXPOSE" => {
            for port in rest.split_whitespace() {
                let port = if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") };
                config.exposed_ports.insert(port, oci::Empty {});
            }
        }
        "VOLUME" => {
            let paths = if rest.starts_with('[') { command(rest) } else { words(rest) };
            for path in paths {
                config.volumes.insert(path, oci::Empty {});
            }
        }
        "ENV" | "LABEL" => {
            for (key, value) in pairs(rest).ok_or_else(|| bad("expected KEY=VALUE"))? {
                if keyword == "LABEL" {
                    config.labels.insert(key, value);
                } else {
                    config.env.retain(|known| known.split('=').next() != Some(&key));
                    config.env.push(format!("{key}={value}"));
                }
            }
        }
        other => return Err(bad(&format!("{other} cannot change an image"))),
    }
    Ok(())
}

/// Splits at blanks, minding quotes and backslashes.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut open = false;
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', None | Some('"')) => {
                word.extend(letters.next());
                open = true;
            }
            (letter, Some(end)) if letter == end => quote = None,
            (letter, Some(_)) => word.push(letter),
            ('"' | '\'', None) => {
                quote = Some(letter);
                open = true;
            }
            (letter, None) if letter.is_whitespace() => {
                if open || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                    open = false;
                }
            }
            (letter, None) => word.push(letter),
        }
    }
    if open || !word.is_empty() {
        words.push(word);
    }
    words
}

fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let words = words(text);
    let first = words.first()?;
    if !first.contains('=') {
        // the old form: KEY VALUE
        let (key, value) = text.split_once(char::is_whitespace)?;
        return Some(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    words
        .iter()
        .map(|word| word.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes() {
        let mut config = ContainerConfig::default();
        for change in [
            r#"CMD ["sh", "-c", "x"]"#,
            "ENTRYPOINT run it",
            r#"ENV A=1 B="two words""#,
            "ENV A 3",
            "LABEL x=y",
            "EXPOSE 80 53/udp",
            "USER app",
            "WORKDIR /w",
            "STOPSIGNAL SIGQUIT",
            "VOLUME /data",
        ] {
            apply_change(&mut config, change).unwrap();
        }
        assert_eq!(config.cmd.as_deref().unwrap(), ["sh", "-c", "x"]);
        assert_eq!(config.entrypoint.as_deref().unwrap(), ["/bin/sh", "-c", "run it"]);
        assert_eq!(config.env, ["B=two words", "A=3"]);
        assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
        assert!(apply_change(&mut config, "FROM x").is_err());
        assert!(apply_change(&mut config, "CMD").is_err());
    }
}
