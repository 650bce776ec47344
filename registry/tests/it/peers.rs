//! An independent client: oci-client pushes and we pull, and the other way round.

use crate::fixture::{Memory, copy_all, options};
use crate::real::{Kind, RealRegistry, has};
use oci::{Compression, Platform};
use oci_client::client::{ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_client::secrets::RegistryAuth;
use registry::Client;
use registry::testing::{Server, ServerOptions};
use registry::transport::{RemoteDestination, RemoteSource};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    // it has no crypto provider of its own
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn peer() -> oci_client::Client {
    oci_client::Client::new(ClientConfig { protocol: ClientProtocol::Http, ..Default::default() })
}

fn both_ways(address: &str) {
    let client = Client::new(options(address));
    let image = Memory::image(&Platform::host(), &[(Compression::Gzip, 100_000), (Compression::Gzip, 10)]);
    let ours = registry::Reference::parse(&format!("{address}/peer/ours:1")).unwrap();
    copy_all(&image, &RemoteDestination::new(&client, &ours)).unwrap();

    let theirs = registry::Reference::parse(&format!("{address}/peer/theirs:1")).unwrap();
    block_on(async {
        let peer = peer();
        let accepted = vec![oci::media_type::OCI_LAYER_GZIP];
        let name: oci_client::Reference = ours.to_string().parse().unwrap();
        let pulled = peer.pull(&name, &RegistryAuth::Anonymous, accepted).await.unwrap();
        assert_eq!(pulled.digest.as_deref(), Some(image.root().digest().as_str()));
        let mut sizes: Vec<u64> = pulled.layers.iter().map(|layer| layer.data.len() as u64).collect();
        let mut expected: Vec<u64> = image.manifest().layers.iter().map(|layer| layer.size).collect();
        sizes.sort_unstable();
        expected.sort_unstable();
        assert_eq!(sizes, expected);

        let layers: Vec<ImageLayer> = pulled.layers;
        let config = Config::oci_v1(pulled.config.data.to_vec(), None);
        let name: oci_client::Reference = theirs.to_string().parse().unwrap();
        peer.push(&name, &layers, config, &RegistryAuth::Anonymous, None).await.unwrap();
    });
    let pulled = Memory::default();
    copy_all(&RemoteSource::new(&client, &theirs).unwrap(), &pulled).unwrap();
    for layer in &image.manifest().layers {
        assert!(pulled.blobs.lock().unwrap().contains_key(&layer.digest));
    }
}

#[test]
fn oci_client_and_the_registry_in_this_process() {
    let server = Server::start(ServerOptions::default()).unwrap();
    both_ways(&server.address());
}

#[test]
fn oci_client_and_the_real_registry() {
    if has("docker-registry") {
        both_ways(&RealRegistry::start(Kind::default()).address);
    }
}
