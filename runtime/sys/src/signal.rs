//! Signals: names, sets and signalfd.
