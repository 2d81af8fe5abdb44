//! Which packages satisfy a set of wants, over apk indexes.
