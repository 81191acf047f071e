"""Every port of the application: what it needs of the outside, and what each adapter guarantees."""
