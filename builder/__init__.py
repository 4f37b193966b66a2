"""EngineMatrix: versions as axes, compatibility as data with evidence."""

__version__ = "0.1.0"
