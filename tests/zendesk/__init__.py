"""The Zendesk dialect: pure readers by table, repetition by a list of answers, every call once over a real socket."""
