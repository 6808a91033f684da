"""A client's own mirror: one folder with everything that stacks download, served read-only over HTTP.

``needs`` says what a layout downloads, each source's module turns that into files, ``build`` fetches them, ``index``
remembers which need is met by which files, ``serve`` hands them out.
"""
