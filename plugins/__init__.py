"""The plugins that come with the bridge. Like any other, they are loaded by their entry points."""
