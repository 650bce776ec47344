//! What the test registry holds.

use oci::Digest;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

type Bytes = Arc<Vec<u8>>;

#[derive(Debug, Default)]
pub(super) struct State {
    blobs: HashMap<(String, Digest), Bytes>,
    manifests: BTreeMap<(String, String), (String, Bytes)>,
    uploads: HashMap<String, Vec<u8>>,
    next_upload: u64,
    pub(super) next_token: u64,
    pub(super) tokens: HashMap<String, String>,
}

impl State {
    pub(super) fn put_blob(&mut self, repository: &str, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        self.blobs.insert((repository.to_owned(), digest.clone()), Arc::new(bytes));
        digest
    }

    pub(super) fn blob(&self, repository: &str, digest: &Digest) -> Option<Bytes> {
        self.blobs.get(&(repository.to_owned(), digest.clone())).cloned()
    }

    pub(super) fn mount(&mut self, repository: &str, from: &str, digest: &Digest) -> bool {
        match self.blob(from, digest) {
            Some(bytes) => {
                self.blobs.insert((repository.to_owned(), digest.clone()), bytes);
                true
            }
            None => false,
        }
    }

    pub(super) fn delete_blob(&mut self, repository: &str, digest: &Digest) -> bool {
        self.blobs.remove(&(repository.to_owned(), digest.clone())).is_some()
    }

    pub(super) fn put_manifest(
        &mut self,
        repository: &str,
        target: &str,
        kind: &str,
        bytes: Vec<u8>,
    ) -> Digest {
        let digest = Digest::of(&bytes);
        let entry = (kind.to_owned(), Arc::new(bytes));
        self.manifests.insert((repository.to_owned(), digest.to_string()), entry.clone());
        if !target.contains(':') {
            self.manifests.insert((repository.to_owned(), target.to_owned()), entry);
        }
        digest
    }

    pub(super) fn manifest(&self, repository: &str, target: &str) -> Option<(String, Bytes)> {
        self.manifests.get(&(repository.to_owned(), target.to_owned())).cloned()
    }

    pub(super) fn delete_manifest(&mut self, repository: &str, digest: &str) -> bool {
        let Some((_, gone)) = self.manifest(repository, digest) else { return false };
        self.manifests.retain(|(name, _), (_, bytes)| name != repository || *bytes != gone);
        true
    }

    pub(super) fn tags(&self, repository: &str) -> Vec<String> {
        let own = self.manifests.keys().filter(|(name, target)| name == repository && !target.contains(':'));
        own.map(|(_, target)| target.clone()).collect()
    }

    pub(super) fn begin_upload(&mut self) -> String {
        self.next_upload += 1;
        let id = format!("upload-{}", self.next_upload);
        self.uploads.insert(id.clone(), Vec::new());
        id
    }

    pub(super) fn extend_upload(&mut self, id: &str, bytes: &[u8]) -> bool {
        self.uploads.get_mut(id).map(|upload| upload.extend_from_slice(bytes)).is_some()
    }

    pub(super) fn take_upload(&mut self, id: &str) -> Option<Vec<u8>> {
        self.uploads.remove(id)
    }

    pub(super) fn open_uploads(&self) -> usize {
        self.uploads.len()
    }
}
