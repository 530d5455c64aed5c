def rows():
    return [["lr", 0.1]]
