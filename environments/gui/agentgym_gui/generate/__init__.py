"""Screens of programs that do not exist: written as HTML, drawn by a real browser, which also says where things are."""
