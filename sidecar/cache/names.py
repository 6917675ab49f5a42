"""Names that may be written small: those that in small letters are no other word, and no other name.

By how a name is written with care; any other way to write it (Sql, PARIS) stays as it is. Left out, though
often written small:

    other words       Turkey, China, Nice, Reading, Polish, Danish, Python, Swift, Word, Windows, SOAP, PIN
    rare other words  Japan and Russia (lacquer, leather), Chile and Lima (a pepper, a bean), Peru (a colour),
                      Brussels (sprouts), Manchester (bed linen), Texas (a part of a steamboat), TypeScript
                      (a typed text), APIs (bees), IDE (a fish), Ansible, Cologne, Shanghai, Terraform
    units, symbols    ML, PC, CV, HR: ml, pc, cv, hr
    other names       iOS, of Apple and of Cisco; PNG, a country and a file
"""

from sidecar.cache.wordlists import listed


def _each(text: str) -> dict[str, str]:
    return {name: name.lower() for name in text.split()}


_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
# Not March, May, August.
_MONTHS = "January February April June July September October November December"
_LANGUAGES = """English French German Spanish Italian Portuguese Russian Japanese Chinese Korean Arabic
    Hebrew Hindi Urdu Bengali Vietnamese Swedish Norwegian Finnish Hungarian Czech Romanian Ukrainian
    Bulgarian Croatian Serbian Indonesian Persian American Australian British Canadian European African
    Asian Mexican"""
_COUNTRIES = """Afghanistan Albania Algeria Argentina Armenia Australia Austria Azerbaijan Bangladesh
    Belgium Botswana Bulgaria Cambodia Cameroon Canada Colombia Croatia Cuba Denmark Ecuador Egypt
    Estonia Ethiopia Finland France Germany Ghana Greece Guatemala Haiti Honduras Hungary Iceland India
    Indonesia Iran Iraq Ireland Israel Italy Kazakhstan Kenya Kuwait Latvia Lebanon Libya Lithuania
    Luxembourg Malaysia Mexico Mongolia Namibia Nepal Netherlands Nicaragua Nigeria Norway Pakistan
    Paraguay Philippines Poland Portugal Qatar Romania Rwanda Senegal Serbia Singapore Slovakia Slovenia
    Somalia Spain Sudan Sweden Switzerland Syria Taiwan Tanzania Thailand Tunisia Uganda Ukraine Uruguay
    Uzbekistan Venezuela Vietnam Yemen Zambia Africa America Asia Europe Scotland England"""
_CITIES = """Amsterdam Athens Baghdad Beijing Brisbane Budapest Cairo Copenhagen Dallas Delhi
    Dubai Dublin Edinburgh Frankfurt Glasgow Helsinki Houston Istanbul Jakarta Karachi Kyiv Lagos
    Liverpool London Madrid Melbourne Miami Montreal Moscow Mumbai Munich Nairobi Naples Osaka
    Oslo Paris Prague Rome Seattle Seoul Stockholm Sydney Tehran Tokyo Toronto Turin Vancouver Venice
    Vienna Zurich California Florida"""
_PRODUCTS = """JavaScript Javascript PostgreSQL Postgres MySQL SQLite MongoDB NoSQL Kubernetes Linux
    GitHub Github GitLab Gitlab Bitbucket Laravel Django jQuery Node.js Vue.js NumPy Numpy PyTorch
    Pytorch TensorFlow Tensorflow Matplotlib Elasticsearch GraphQL OAuth Nginx Hadoop iPhone iPhones
    iPad iPads MacBook Macbook macOS WhatsApp Whatsapp YouTube Youtube LinkedIn Linkedin Instagram
    TikTok Netflix Spotify PayPal Paypal Microsoft Samsung Wikipedia Gmail PowerPoint Powerpoint
    Bluetooth Ethernet Wi-Fi WiFi Wifi ChatGPT OpenAI"""
_INITIALS = """API AWS CLI CORS CPU CPUs CSRF CSS CSV DHCP DNS FTP GCP GPS GPU GPUs GPT GUI HDD
    HTML HTTP HTTPS IMAP JPEG JPG JSON JWT LDAP LLM LLMs NLP PDF PDFs PHP SAML SDK SFTP SMTP SMS SQL SSD
    SSH SSL SVG TCP TLS UDP URL URLs USB UUID VPN VPNs XML XSS YAML ADHD CEO CEOs DIY DNA DVD FAQ FAQs
    FBI GDP GDPR HIV MRI NASA NATO NYC PTSD RNA TV TVs UAE UK USA"""

NAMES = _each(f"{_DAYS} {_MONTHS} {_LANGUAGES} {_COUNTRIES} {_CITIES} Facebook Photoshop")
PRODUCTS = _each(_PRODUCTS)
INITIALS = _each(_INITIALS)
# Who says one of these may speak of an identifier or a text, where each letter counts: the class URL and the
# module url, the folder Paris and the password monday are not the same. So may, of initials, who says one of
# each of the next two.
OF_CODE = listed(
    """attribute bash branch class classes column constant database directory element email endpoint enum env
    environment export field file folder function gem header heading hostname identifier import importing
    interface key keyword method module modules namespace object objects package page password path
    property require schema selector shell struct table tag type types user variable wrong"""
)
OF_USE = listed("what use using call define declare explain need")
PROGRAMMING = listed(
    """c dart elixir go golang java javascript js julia kotlin perl php python r ruby rust scala swift
    typescript"""
)
# A german is a dance and a canada a valley: what has an article may be another thing.
ARTICLES = frozenset(("a", "an", "A", "An"))

# Other words too, but with an article or in the plural (a docker, gits, an ai, a berlin): names after one of
# these words, where a thing has its article,
BARE = _each("Docker Git Android Ubuntu Excel AI Berlin Barcelona")
BEFORE_BARE = frozenset(("in", "on", "from", "with", "using", "install"))
# and at the end or before one of these: "android sheep" and "docker strikes" are something else.
AFTER_BARE = frozenset(("in", "on", "from", "with", "without", "using", "for"))

# Names of two words by the first, which in small letters is another word.
SECOND = {
    "New": frozenset(("York", "Zealand", "Delhi")),
    "South": frozenset(("Korea", "Africa")),
    "North": frozenset(("Korea",)),
    "Saudi": frozenset(("Arabia",)),
    "Sri": frozenset(("Lanka",)),
    "Costa": frozenset(("Rica",)),
    "Hong": frozenset(("Kong",)),
    "Los": frozenset(("Angeles",)),
    "San": frozenset(("Francisco", "Diego")),
    "Buenos": frozenset(("Aires",)),
}
