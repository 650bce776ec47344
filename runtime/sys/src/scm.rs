//! Descriptor passing over Unix sockets.
