"""QAD, as this package speaks to it: the Adaptive REST edition, and Enterprise Edition through QXtend (SOAP).

`reader` is what both are to the rest of this package. REST: `browse` is the dialect without any I/O, `auth` signs in,
`client` reads customers and contacts page by page, `preflight` finds out what a site has. QXtend: `qxtend_settings`
what a site's is like, `qxtend` what is asked, `qxtend_answer` what an answer means, `qxtend_client`,
`qxtend_preflight`. Only the `qxtend` modules, without the settings, need the packages of the extra `[qxtend]`.
Nothing here writes to QAD, and nothing here knows Zendesk, the ledger or Airflow.
"""
