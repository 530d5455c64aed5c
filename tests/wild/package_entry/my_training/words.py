WORDS = "from a package"
