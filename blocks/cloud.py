"""The blocks of a team's accounts, made from environment variables or a file of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from prefect_aws import AwsCredentials
from prefect_aws.client_parameters import AwsClientParameters
from prefect_snowflake import SnowflakeConnector, SnowflakeCredentials
from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from blocks.role import Role, find_block
from blocks.tracking import ServerTracking

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

AWS, SNOWFLAKE = "sentiment-aws", "sentiment-snowflake"
"""Names of the credentials that the roles' blocks refer to: a new secret goes into one place."""


class VariablesError(ValueError):
    """Raised when variables are missing or wrong; names all of them."""


class Environment(BaseSettings):
    """What has to be known of the accounts. The names are those that the services' own tools read."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    sentiment_bucket: str = Field(description="S3 bucket of the lake.")
    sentiment_prefix: str = Field(default="", description="Folder in the bucket.")
    aws_region: str = Field(description="Region of the bucket.")
    aws_access_key_id: str | None = Field(
        default=None, description="Access key; without one, the identity of the machine that a flow runs on."
    )
    aws_secret_access_key: SecretStr | None = Field(default=None, description="Secret of the access key.")
    aws_session_token: SecretStr | None = Field(default=None, description="Not accepted: see the message.")
    aws_role_arn: str | None = Field(default=None, description="Role to assume.")
    aws_endpoint_url: str | None = Field(default=None, description="Another S3 than AWS's.")
    sentiment_repository: str = Field(default="sentiment", description="ECR repository of the images.")
    sentiment_registry: str | None = Field(default=None, description="Host of another registry than ECR's.")
    sentiment_build_args: dict[str, str] = Field(
        default={}, description="Build arguments of the serving image, as a JSON object."
    )
    aws_endpoint_url_ecr: str | None = Field(default=None, description="Another ECR API than AWS's.")
    sagemaker_role_arn: str | None = Field(
        default=None, description="Role of the SageMaker endpoint; without one, there is no such endpoint."
    )
    sentiment_endpoint: str = Field(default="sentiment", description="Name of the SageMaker endpoint.")
    sentiment_instance_type: str | None = Field(
        default=None,
        description="What it runs on, or `serverless`; by default what its block has.",
    )
    aws_endpoint_url_sagemaker: str | None = Field(
        default=None, description="Other APIs than AWS's for SageMaker and what belongs to it."
    )
    snowflake_account: str = Field(description="Account identifier, such as ORGANISATION-ACCOUNT.")
    snowflake_user: str = Field(description="User of the service.")
    snowflake_password: SecretStr | None = Field(default=None, description="Password, unless a key is given.")
    snowflake_private_key_path: Path | None = Field(
        default=None, description="PEM file of the user's private key; the block holds its content."
    )
    snowflake_private_key_passphrase: SecretStr | None = Field(default=None, description="Of the key file.")
    snowflake_role: str | None = Field(default=None, description="Instead of the user's default role.")
    snowflake_warehouse: str = Field(description="Virtual warehouse that computes.")
    snowflake_database: str = Field(description="Database of the table.")
    snowflake_schema: str = Field(default="PUBLIC", description="Schema of the table.")
    snowflake_host: str | None = Field(default=None, description="Of a private link or a proxy.")
    snowflake_port: int | None = Field(default=None, description="Its port.")
    snowflake_protocol: Literal["https", "http"] = Field(default="https", description="What it speaks.")
    mlflow_tracking_uri: str = Field(description="Address of the MLflow server, without user and password.")
    mlflow_tracking_username: str | None = Field(default=None, description="User of the MLflow server.")
    mlflow_tracking_password: SecretStr | None = Field(default=None, description="Password of that user.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.aws_session_token is not None:
            raise ValueError(
                "AWS_SESSION_TOKEN: temporary credentials end within hours, and Prefect would keep the token "
                "in the clear. Unset it and give AWS_ROLE_ARN, a key of a service user, or no key at all."
            )
        if (self.aws_access_key_id is None) != (self.aws_secret_access_key is None):
            raise ValueError("AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY: give both or neither.")
        if (self.snowflake_password is None) == (self.snowflake_private_key_path is None):
            raise ValueError("SNOWFLAKE_PASSWORD, SNOWFLAKE_PRIVATE_KEY_PATH: give one of the two.")
        if (self.mlflow_tracking_username is None) != (self.mlflow_tracking_password is None):
            raise ValueError("MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD: give both or neither.")
        return self

    @classmethod
    def read(cls, file: Path) -> Self:
        """Return the variables of the environment, and of `file` where the environment has none.

        Raises:
            VariablesError: Variables are missing or wrong.
        """
        try:
            return cls(_env_file=file)
        except ValidationError as error:
            raise VariablesError("\n".join(map(_line, error.errors()))) from None

    def save(self) -> list[Role]:
        """Save the credentials and the blocks that refer to them, and return the latter.

        Raises:
            VariablesError: A key file or an address cannot be used. Nothing is saved then.
        """
        from blocks.ecr import EcrImages
        from blocks.s3 import S3Lake
        from blocks.snowflake import SnowflakeWarehouse

        aws, snowflake = self._aws(), self._snowflake()
        connector = SnowflakeConnector(
            credentials=snowflake,
            database=self.snowflake_database,
            warehouse=self.snowflake_warehouse,
            schema=self.snowflake_schema,
        )
        roles: list[Role] = [
            S3Lake(bucket=self.sentiment_bucket, prefix=self.sentiment_prefix, credentials=aws),
            SnowflakeWarehouse(
                connector=connector,
                host=self.snowflake_host,
                port=self.snowflake_port,
                protocol=self.snowflake_protocol,
            ),
            self._tracking(),
            EcrImages(
                repository=self.sentiment_repository,
                registry=self.sentiment_registry,
                endpoint=self.aws_endpoint_url_ecr,
                build_args=self.sentiment_build_args,
                credentials=aws,
            ),
            *self._endpoint(aws),
        ]
        aws.save(AWS, overwrite=True)
        snowflake.save(SNOWFLAKE, overwrite=True)
        return [role.appoint() for role in roles]

    def _aws(self) -> AwsCredentials:
        return AwsCredentials(
            aws_access_key_id=self.aws_access_key_id,
            aws_secret_access_key=self.aws_secret_access_key,
            region_name=self.aws_region,
            assume_role_arn=self.aws_role_arn,
            aws_client_parameters=AwsClientParameters(endpoint_url=self.aws_endpoint_url),
        )

    def _snowflake(self) -> SnowflakeCredentials:
        common = {"account": self.snowflake_account, "user": self.snowflake_user, "role": self.snowflake_role}
        file = self.snowflake_private_key_path
        if file is None:
            return SnowflakeCredentials(**common, password=self.snowflake_password)
        try:
            credentials = SnowflakeCredentials(
                **common,
                authenticator="snowflake_jwt",
                private_key=file.expanduser().read_bytes(),
                private_key_passphrase=self.snowflake_private_key_passphrase,
            )
            credentials.resolve_private_key()
        except (OSError, ValueError, TypeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a PEM file of that passphrase"
            raise VariablesError(
                f"SNOWFLAKE_PRIVATE_KEY_PATH, SNOWFLAKE_PRIVATE_KEY_PASSPHRASE: {file}: {reason}."
            ) from None
        return credentials

    def _endpoint(self, aws: AwsCredentials) -> list[Role]:
        """Return the endpoint, if there is to be one, with what people have set in its block since."""
        if self.sagemaker_role_arn is None:
            return []
        from blocks.hosting import hosting
        from blocks.sagemaker import SageMakerEndpoint

        settings: dict[str, Any] = {
            "name": self.sentiment_endpoint,
            "role": self.sagemaker_role_arn,
            "api": self.aws_endpoint_url_sagemaker,
            "credentials": aws,
        }
        saved = find_block(SageMakerEndpoint, SageMakerEndpoint.slot)
        if saved is not None:
            kept = {name: getattr(saved, name) for name in ("hosting", "batch", "keep", "timeout", "poll")}
            settings = kept | settings
        try:
            if self.sentiment_instance_type is not None:
                settings["hosting"] = hosting(self.sentiment_instance_type, saved.hosting if saved else None)
            return [SageMakerEndpoint(**settings)]
        except ValidationError as error:
            raise VariablesError(
                "SAGEMAKER_ROLE_ARN, SENTIMENT_ENDPOINT, SENTIMENT_INSTANCE_TYPE: "
                + "; ".join(f"{problem['loc'][-1]}: {problem['msg']}" for problem in error.errors())
            ) from None

    def _tracking(self) -> ServerTracking:
        try:
            return ServerTracking(
                address=self.mlflow_tracking_uri,
                user=self.mlflow_tracking_username,
                password=self.mlflow_tracking_password,
            )
        except ValidationError as error:
            raise VariablesError(f"MLFLOW_TRACKING_URI: {error.errors()[0]['msg']}") from None


def _line(problem: "ErrorDetails") -> str:
    name = "_".join(map(str, problem["loc"])).upper()
    text = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        text = f"not set. {Environment.model_fields[name.lower()].description}"
    return f"{name}: {text}" if name else text
