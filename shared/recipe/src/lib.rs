//! Package and image definitions: the melange and apko formats, substitutions and built-in pipelines.
